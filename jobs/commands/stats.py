"""`ifmdm jobs stats`: queues, workers, times."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands.choosing import OneTenantOption
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    command_app,
    open_store,
    print_json,
)
from jobs.commands.tables import print_table
from jobs.commands.times import span
from jobs.stats import Stats, Times
from jobs.stats import stats as stats_of

app = command_app()


@app.command()
def stats(
    days: Annotated[
        float, typer.Option(metavar="N", min=0.05, help="for how many days ended jobs are counted")
    ] = 1.0,
    tenant: OneTenantOption = None,
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Count jobs by tenant and state, and say how fast they go and who works on them."""
    store = open_store(root, tenant or "default", endpoint, profile, role).store
    found = stats_of(store, None if tenant is None else [tenant], days)
    if as_json:
        print_json(found.as_dict())
        return
    _print(found)


def _print(found: Stats) -> None:
    states = list(dict.fromkeys(state for counts in found.states.values() for state in sorted(counts)))
    if states:
        rows = [
            [tenant, *(counts.get(state, 0) for state in states)] for tenant, counts in found.states.items()
        ]
        print_table(["tenant", *states], rows)
    else:
        print("no jobs")
    ended = sum(found.ended_last_hour.values())
    by_state = ", ".join(f"{count} {state}" for state, count in found.ended_last_hour.items())
    print(f"\nlast hour  {ended} ended{f': {by_state}' if by_state else ''}")
    for name, times in (("waited", found.wait), ("ran", found.run)):
        if times is not None:
            print(f"{name:<9}  {_told(times)}")
    print(f"workers    {len(found.workers)} with {found.slots} slots")
    for worker in found.workers:
        print(
            f"           {worker['name']} at {worker['host']}: {len(worker['jobs'])} of {worker['slots']} busy"
        )


def _told(times: Times) -> str:
    return f"half within {span(times.p50)}, 95 of 100 within {span(times.p95)}"
