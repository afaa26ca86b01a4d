"""`ifmdm jobs ls`: which jobs there are."""

from __future__ import annotations

import itertools
import sys
from typing import Annotated

import typer

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
from jobs.commands.tables import job_row, print_table
from jobs.listing import beats, find

COLUMNS = ("id", "state", "for", "output", "labels", "note")
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="at most so many")]

app = command_app()


@app.command()
def ls(
    states: StateOption = None,
    labels: LabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    prefix: PrefixOption = "",
    text: TextOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    everybody: EverybodyOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """List jobs: what runs, what waits (next first), what has ended (latest first).

    Jobs that were cleaned up are not listed; 'ifmdm jobs show ID' still knows them.
    """
    store = open_store(root, tenant, endpoint, profile, role).store
    which = which_of(tenant, everybody, states, labels, since, before, prefix, text)
    found = list(itertools.islice(find(store, which), limit + 1))
    more, found = len(found) > limit, found[:limit]
    if as_json:
        print_json({"jobs": [job.summary() for job in found], "more": more})
        return
    columns = (*COLUMNS[:1], "tenant", *COLUMNS[1:]) if everybody else COLUMNS
    alive, now = beats(store), store.clock.now()
    rows = [job_row(job, now, alive) for job in found]
    print_table(columns, [[row[column] for column in columns] for row in rows])
    if more:
        print(f"ifmdm: there are more than {limit}; --limit shows them", file=sys.stderr)
