"""Options that choose jobs, the same in every command that is about many."""

from __future__ import annotations

from typing import Annotated

import typer

from ifmdm_core.errors import BadInput, nearest
from jobs.commands.times import parse_duration
from jobs.entries import State
from jobs.listing import STATES, Which

StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE,…", help=f"in one of these states: {', '.join(STATES)}"),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="with this label; repeatable, all must hold"),
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="AGE", help="in their state for no longer than this: 90m, 2h, 3d"),
]
BeforeOption = Annotated[
    str | None, typer.Option("--before", metavar="AGE", help="in their state for at least this")
]
PrefixOption = Annotated[
    str, typer.Option("--output-prefix", metavar="URI", help="whose output begins like this")
]
TextOption = Annotated[
    str, typer.Option("--find", metavar="TEXT", help="with this in their id, output or a label")
]
EverybodyOption = Annotated[bool, typer.Option("--all-tenants", help="everybody's jobs, not one tenant's")]
OneTenantOption = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="only this tenant's; default: everybody's")
]


def which_of(
    tenant: str,
    everybody: bool = False,
    states: list[str] | None = None,
    labels: list[str] | None = None,
    since: str | None = None,
    before: str | None = None,
    prefix: str = "",
    text: str = "",
    otherwise: frozenset[State] = frozenset(),
) -> Which:
    """What the options choose.

    Args:
        otherwise: states, where none are given.

    Raises BadInput.
    """
    chosen = frozenset(_state(name) for given in states or () for name in given.split(",") if name)
    return Which(
        tenants=None if everybody else (tenant,),
        states=chosen or otherwise,
        labels=dict(_label(label) for label in labels or ()),
        output_prefix=prefix,
        text=text,
        since_s=None if since is None else parse_duration(since, "--since"),
        before_s=None if before is None else parse_duration(before, "--before"),
    )


def _state(name: str) -> State:
    for state in STATES:
        if name == state:
            return state
    raise BadInput(f"--state {name!r} is no state", fix=nearest(name, STATES))


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadInput(f"--label {text}: no name and value", fix="write it as NAME=VALUE")
    return name, value
