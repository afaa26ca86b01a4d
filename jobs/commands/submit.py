"""`ifmdm jobs submit`: one job, from a file or from options, or a manifest of many."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ifmdm_core.errors import BadInput, NotFound
from jobs.client import JobClient
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    TenantOption,
    command_app,
    named_root,
    s3_config,
)
from jobs.commands.submit_manifest import submit_manifest
from jobs.commands.submit_one import submit_one
from jobs.commands.times import parse_time
from jobs.manifest.row_jobs import given_fields

app = command_app()


@app.command()
def submit(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB.json|-", help="a job's fields as JSON", show_default=False)
    ] = None,
    portrait: Annotated[str | None, typer.Option(metavar="URI", help="picture with a face")] = None,
    audio: Annotated[str | None, typer.Option(metavar="URI", help="speech")] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="URI", help="the MP4 to make")
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="one job a row: .csv, .jsonl, .parquet; a path or s3://…"),
    ] = None,
    output_template: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="outputs of rows without one, such as s3://b/out/{row:06d}-{portrait.stem}.mp4",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="one of the tenant's models")] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="N", help="each step counts like a minute of waiting")
    ] = None,
    if_exists: Annotated[
        str | None,
        typer.Option(metavar="fail|overwrite", help="what to do where the output is there already"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="the same key again is the same job")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="any field, such as controls.steps=4; repeatable"),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="to find it by; repeatable")
    ] = None,
    not_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="+90m, 2026-12-24T18:00Z, or seconds since 1970")
    ] = None,
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help="given up after it")] = None,
    max_attempts: Annotated[int | None, typer.Option(metavar="N", help="tries that may fail")] = None,
    consent: Annotated[
        str | None, typer.Option(metavar="TEXT", help="reference to the shown person's consent")
    ] = None,
    callback: Annotated[
        str | None, typer.Option(metavar="URL", help="is told when the job has ended")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="another job, even where there is the same")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="look at the first bytes of the inputs too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, write nothing")] = False,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="notes which row is in; default: <manifest>.submitted.jsonl"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="rows at a time; default: 64 in a bucket, 8 in a folder"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until all have ended; fails where one does")] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="longest wait; default: no limit")
    ] = None,
    as_json: JsonOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> int:
    """Hand in one job (JOB.json, or --portrait, --audio, --output), or a --manifest of many.

    Options go before what JOB.json says, and hold for those rows of a manifest that do not say otherwise. Submitting
    again is safe: what is in the store already is found, and a manifest goes on where it stopped.
    """
    client = JobClient(named_root(root), tenant, s3_config(endpoint, profile, role))
    now = client.store.clock.now()
    fields = given_fields(
        settings, labels, portrait=portrait, audio=audio, output=output, model=model, priority=priority,
        if_exists=if_exists, key=key, max_attempts=max_attempts, consent=consent, callback=callback,
        not_before=None if not_before is None else parse_time(not_before, now, "--not-before"),
        deadline=None if deadline is None else parse_time(deadline, now, "--deadline"),
    )  # fmt: skip
    if manifest is not None:
        _refuse("--manifest", JOB=job, **{"--output": output, "--key": key, "--new": new or None})
        return submit_manifest(
            client, manifest, fields, output_template, journal, workers, probe=probe, dry_run=dry_run, wait=wait,
            timeout_s=timeout, as_json=as_json,
        )  # fmt: skip
    _refuse("one job", **{"--output-template": output_template, "--journal": journal, "--workers": workers})
    if job is not None:
        fields = _over(_read_job(job), fields)
    elif None in (portrait, audio, output):
        raise BadInput(
            "nothing to submit", fix="give JOB.json, --manifest, or --portrait, --audio and --output"
        )
    return submit_one(
        client, fields, new=new, probe=probe, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json
    )


def _refuse(what: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise BadInput(f"{name} does not go with {what}", fix="leave one of them out")


def _read_job(place: str) -> dict[str, Any]:
    name = "standard input" if place == "-" else repr(place)
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        raise NotFound(f"there is no job file {name}", fix="check the path") from None
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{name} is no JSON: {error}", fix="ifmdm jobs schema shows what it may hold"
        ) from None
    if not isinstance(values, dict):
        raise BadInput(
            f"{name} holds a {type(values).__name__}", fix="it must be an object with a job's fields"
        )
    return values


def _over(values: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """`values` with what the options say."""
    for name, value in fields.items():
        below = values.get(name)
        values[name] = {**below, **value} if isinstance(value, dict) and isinstance(below, dict) else value
    return values
