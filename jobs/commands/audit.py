"""`ifmdm jobs audit`: who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.audit import lines, verify
from jobs.commands.choosing import OneTenantOption
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    command_app,
    print_json,
)
from jobs.commands.oversight import open_overseen
from jobs.commands.tables import plain, print_table
from jobs.commands.times import parse_duration
from jobs.names import check_tenant
from jobs.timeline import clock_time

app = command_app()


@app.command()
def audit(
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE", help="no longer ago than this: 90m, 2h, 30d")
    ] = None,
    tenant: OneTenantOption = None,
    check: Annotated[
        bool, typer.Option("--verify", help="whether anything was changed or taken out; exit code 3 if so")
    ] = False,
    kept_days: Annotated[
        float | None,
        typer.Option(metavar="N", min=0, help="with --verify: older parts of the log may have been removed"),
    ] = None,
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> int:
    """List who did what, oldest first: jobs by their own logs, the rest by the audit log. Or check the log itself."""
    store = open_overseen(root, endpoint, profile, role)
    if check:
        checked = verify(store, kept_days)
        if as_json:
            print_json(asdict(checked))
        else:
            for problem in checked.problems:
                print(f"problem  {plain(problem)}")
            print(f"{checked.events} events on {checked.pages} pages, {len(checked.problems)} problems")
        return 3 if checked.problems else 0
    tenants = None if tenant is None else (check_tenant(tenant),)
    begin = 0.0 if since is None else store.clock.now() - parse_duration(since, "--since")
    found = lines(store, tenants, begin)
    if as_json:
        print_json([told.plain() for told in found])
        return 0
    rows = [(clock_time(t.at)[:-4], t.tenant, t.what, t.who, t.subject, t.note) for t in found]
    print_table(("when", "tenant", "what", "who", "subject", "note"), rows)
    return 0
