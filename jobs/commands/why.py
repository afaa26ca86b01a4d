"""`ifmdm jobs why ID`: what a job waits for."""

from __future__ import annotations

from dataclasses import asdict

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
from jobs.commands.show import JobArgument
from jobs.commands.tables import plain
from jobs.listing import resolve
from jobs.why import why as reasons_of

app = command_app()


@app.command()
def why(
    id: JobArgument,
    as_json: JsonOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Say why a job is where it is, the most decisive reason first, and what can be done about it."""
    store = open_store(root, tenant, endpoint, profile, role).store
    reasons = reasons_of(store, resolve(store, tenant, id))
    if as_json:
        print_json([asdict(reason) for reason in reasons])
        return
    for reason in reasons:
        print(plain(reason.what) + (f"\n  -> {plain(reason.fix)}" if reason.fix else ""))
