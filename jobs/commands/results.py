"""`ifmdm jobs results`: what became of a manifest's rows, or of the jobs that a filter chooses."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ifmdm_core.errors import BadInput
from jobs import results as tables
from jobs.commands.choosing import (
    BeforeOption,
    EverybodyOption,
    LabelOption,
    PrefixOption,
    SinceOption,
    StateOption,
    TextOption,
    which_of,
)
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    TenantOption,
    command_app,
    open_store,
    print_json,
)
from jobs.listing import find
from jobs.manifest.journal import journal_beside

app = command_app()


@app.command()
def results(
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="the manifest that was submitted; its journal lies beside it"),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="or that journal, where it is elsewhere")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help=".csv, .jsonl or .parquet; default: CSV on stdout"),
    ] = None,
    states: StateOption = None,
    labels: LabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    prefix: PrefixOption = "",
    text: TextOption = "",
    as_json: JsonOption = False,
    everybody: EverybodyOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Write a table of rows, or jobs, with state, output, sha256 of the video, and the error's field and reason.

    --json prints how many there are in each state, and leaves the table to --out.
    """
    store = open_store(root, tenant, endpoint, profile, role).store
    filtered = any((states, labels, since, before, prefix, text, everybody))
    if as_json and out is None:
        raise BadInput("--json prints a summary only", fix="add --out FILE.jsonl for the table")
    if manifest is not None or journal is not None:
        if filtered:
            raise BadInput("a manifest and a filter do not go together", fix="leave one of them out")
        chosen = tables.of_journal(store, tenant, journal or journal_beside(manifest or Path()))
    else:
        which = which_of(tenant, everybody, states, labels, since, before, prefix, text)
        chosen = tables.of_jobs(find(store, which))
    counts = tables.write(chosen, out)
    if as_json:
        print_json({"out": str(out), "states": dict(counts)})
    elif out is not None:
        print(f"{out}: {_told(counts)}", file=sys.stderr)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "no jobs"
