"""`ifmdm jobs watch`: one job until it has ended, or a live table of many."""

from __future__ import annotations

import itertools
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.errors import BadInput
from jobs.commands.choosing import (
    EverybodyOption,
    LabelOption,
    PrefixOption,
    StateOption,
    TextOption,
    which_of,
)
from jobs.commands.ls import COLUMNS, LimitOption
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    TenantOption,
    command_app,
    open_store,
)
from jobs.commands.submit_one import exit_code
from jobs.commands.tables import job_row, note, plain, rich_table
from jobs.listing import Job, Which, beats, find, read_job, resolve
from jobs.names import JobRef
from jobs.store import JobStore
from jobs.timeline import clock_time

if TYPE_CHECKING:
    from rich.table import Table

app = command_app()


@app.command()
def watch(
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="one job, until it has ended", show_default=False)
    ] = None,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.5, help="between two looks")] = 2.0,
    states: StateOption = None,
    labels: LabelOption = None,
    prefix: PrefixOption = "",
    text: TextOption = "",
    limit: LimitOption = 30,
    as_json: JsonOption = False,
    everybody: EverybodyOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> int:
    """Watch a job until it has ended, with the exit code of how it did; or many, until Ctrl-C.

    --json prints a line for each change of one job.
    """
    store = open_store(root, tenant, endpoint, profile, role).store
    if id is not None:
        if any((states, labels, prefix, text, everybody)):
            raise BadInput("a job and a filter do not go together", fix="leave one of them out")
        return _one(store, resolve(store, tenant, id), every, as_json)
    if as_json or not sys.stdout.isatty():
        raise BadInput(
            "the table of many jobs needs a terminal", fix="name one job, or use ifmdm jobs ls --json"
        )
    _many(store, which_of(tenant, everybody, states, labels, prefix=prefix, text=text), every, limit)
    return 0


def _one(store: JobStore, ref: JobRef, every: float, as_json: bool) -> int:
    told = None
    while True:
        job, now = read_job(store, ref), store.clock.now()
        remark = note(job, now, beats(store) if job.view.state.state == "running" else {})
        if (state := (job.view.seq, job.view.state.state, remark)) != told:
            told = state
            if as_json:
                print(json.dumps({**job.summary(), "note": remark}, ensure_ascii=False), flush=True)
            else:
                line = f"{clock_time(now)[11:19]}  {job.view.state.state:<10} {plain(remark)}"
                print(line.rstrip(), flush=True)
        if job.view.state.terminal:
            return exit_code(job.view)
        store.clock.sleep(every)


def _many(store: JobStore, which: Which, every: float, limit: int) -> None:
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(_table(store, which, limit), refresh=True)
            store.clock.sleep(every)


def _table(store: JobStore, which: Which, limit: int) -> Table:
    found: list[Job] = list(itertools.islice(find(store, which), limit))
    alive, now = beats(store), store.clock.now()
    columns = (*COLUMNS[:1], "tenant", *COLUMNS[1:]) if which.tenants is None else COLUMNS
    rows = (job_row(job, now, alive) for job in found)
    table = rich_table(columns, [[row[column] for column in columns] for row in rows])
    busy = sum(len(beat.jobs) for beat in alive.values())
    slots = sum(beat.slots for beat in alive.values())
    table.caption = (
        f"{clock_time(now)}   {len(alive)} workers, {busy} of {slots} slots busy   Ctrl-C ends this"
    )
    return table
