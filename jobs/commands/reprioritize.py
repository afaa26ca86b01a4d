"""`ifmdm jobs reprioritize`: give waiting jobs another priority."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands.choosing import (
    BeforeOption,
    EverybodyOption,
    LabelOption,
    PrefixOption,
    SinceOption,
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
)
from jobs.commands.steering import Action, DryRunOption, IdsArgument, YesOption, steer_jobs
from jobs.entries import State
from jobs.steer import reprioritise

STATES: frozenset[State] = frozenset(("queued",))

app = command_app()


@app.command()
def reprioritize(
    priority: Annotated[
        int,
        typer.Option(
            "--priority", metavar="N", help="-1000 to 1000; each step counts like a minute of waiting"
        ),
    ],
    ids: IdsArgument = None,
    labels: LabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    prefix: PrefixOption = "",
    text: TextOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    everybody: EverybodyOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> int:
    """Give waiting jobs another priority, by id or all that a filter chooses."""
    opened = open_store(root, tenant, endpoint, profile, role)
    action = Action("reprioritize", lambda store, ref: reprioritise(store, ref, priority), STATES)
    filtered = any((labels, since, before, prefix, text, everybody))
    which = which_of(tenant, everybody, None, labels, since, before, prefix, text, STATES)
    return steer_jobs(
        opened, action, ids, which if filtered else None, yes=yes, dry_run=dry_run, as_json=as_json
    )
