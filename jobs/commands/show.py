"""`ifmdm jobs show ID`: one job, and everything that happened to it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

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
from jobs.commands.tables import plain
from jobs.commands.times import parse_duration, span
from jobs.entries import Fault
from jobs.links import video_link
from jobs.listing import Job, beats, progress_of, read_job, remaining_s, resolve
from jobs.store import JobStore
from jobs.timeline import Moment, clock_time, timeline
from jobs.why import why

JobArgument = Annotated[
    str, typer.Argument(metavar="ID", help="the job, or its first digits", show_default=False)
]

app = command_app()


@app.command()
def show(
    id: JobArgument,
    link: Annotated[
        str | None,
        typer.Option("--link", metavar="AGE", help="a URL to its video, good for so long: 1h, 7d at most"),
    ] = None,
    as_json: JsonOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Show a job: what was asked for, how far it is, and its life entry by entry."""
    opened = open_store(root, tenant, endpoint, profile, role)
    store = opened.store
    job = read_job(store, resolve(store, tenant, id))
    url = None
    if link is not None:
        url = video_link(store, opened.places, job, round(parse_duration(link, "--link")))
    moments = timeline(store, job.view, job.record)
    facts = _facts(store, job)
    if as_json:
        values = {**job.summary(), **facts, "job": job.record.job.model_dump(mode="json")}
        print_json({**values, "link": url, "timeline": [asdict(moment) for moment in moments]})
        return
    for name, value in _lines(store, job, facts):
        print(f"{name:<10} {plain(value)}")
    if url is not None:
        print(f"{'link':<10} {url}")
    print()
    for moment in moments:
        print(_line(moment))


def _facts(store: JobStore, job: Job) -> dict[str, Any]:
    """How far it is."""
    if job.view.state.state == "running":
        progress = progress_of(job.view, beats(store))
        left = remaining_s(job.view, progress, store.clock.now())
        frames = (progress.frames, progress.total) if progress is not None else (0, 0)
        return {"frames": frames[0], "frames_total": frames[1], "remaining_s": left}
    if job.view.state.state in ("queued", "done"):
        return {"why": [str(reason) for reason in why(store, job.ref)]}
    return {}


def _lines(store: JobStore, job: Job, facts: dict[str, Any]) -> list[tuple[str, object]]:
    state, asked = job.view.state, job.record.job
    values = job.summary()
    age = span(max(0.0, store.clock.now() - values["since"]))
    lines: list[tuple[str, object]] = [
        ("job", str(job.ref)),
        ("state", f"{state.state} for {age}" + (", asked to stop" if values["stopping"] else "")),
        ("portrait", asked.portrait),
        ("audio", asked.audio),
        ("output", asked.output + (" (overwrites)" if asked.if_exists == "overwrite" else "")),
        ("model", f"{asked.model} ({state.bundle[:12]} at {job.record.bundle_uri})"),
    ]
    controls = asked.controls.model_dump(mode="json", exclude_defaults=True)
    optional: list[tuple[str, object]] = [
        ("controls", ", ".join(f"{name} {value}" for name, value in controls.items())),
        ("labels", ", ".join(f"{name}={value}" for name, value in sorted(asked.labels.items()))),
        ("key", asked.key),
        ("consent", asked.consent),
        ("deadline", clock_time(asked.deadline) if asked.deadline else None),
        ("fault", _told(state.fault) if state.fault is not None and state.state != "published" else None),
        ("busy", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in state.busy_s.items())),
    ]
    if facts.get("frames_total"):
        left = facts["remaining_s"]
        rest = "" if left is None else f", about {span(left)} left"
        lines.append(("progress", f"{facts['frames']} of {facts['frames_total']} frames{rest}"))
    lines += [("waits", reason) for reason in facts.get("why", ())]
    return [*lines, *((name, value) for name, value in optional if value)]


def _line(moment: Moment) -> str:
    return f"{clock_time(moment.at)[:-4]}  {plain(moment.by):<28}  {plain(moment.what)}"


def _told(fault: Fault) -> str:
    return f"{fault.kind}: {fault.what}" + (f"; {fault.fix}" if fault.fix else "")
