"""What cancel, suspend, resume, retry, replay and reprioritize share: by id, or all that a filter chooses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ifmdm_core.errors import BadInput, Cancelled, IfmdmError
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
    Opened,
    ProfileOption,
    RoleOption,
    RootOption,
    TenantOption,
    command_app,
    open_store,
    print_json,
)
from jobs.commands.tables import plain
from jobs.entries import Fault, State
from jobs.listing import READERS, Which, find, resolve
from jobs.names import JobRef
from jobs.store import JobStore, JobView

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID…", help="jobs, or their first digits", show_default=False)
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="do not ask, where a filter chooses")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="only say which")]


@dataclass(frozen=True)
class Action:
    """What is done to jobs."""

    verb: str
    """As it stands after "to"."""
    do: Callable[[JobStore, JobRef], JobView]
    states: frozenset[State]
    """Which a filter means that names none."""
    needs_no_filter: bool = False
    """Whether no id and no filter is all in these states."""


def steering_app(action: Action, about: str) -> typer.Typer:
    """The command of an action that takes nothing but jobs.

    Args:
        about: its help text.
    """
    app = command_app()

    @app.command(help=about)
    def command(
        ids: IdsArgument = None,
        states: StateOption = None,
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
        opened = open_store(root, tenant, endpoint, profile, role)
        which = which_of(tenant, everybody, states, labels, since, before, prefix, text, action.states)
        filtered = any((states, labels, since, before, prefix, text, everybody)) or action.needs_no_filter
        return steer_jobs(
            opened, action, ids, which if filtered else None, yes=yes, dry_run=dry_run, as_json=as_json
        )

    return app


def steer_jobs(
    opened: Opened, action: Action, ids: list[str] | None, which: Which | None, *, yes: bool, dry_run: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Does it to the jobs named, or chosen, and says so; the exit code: that of the first job that refused.

    Raises BadInput where nothing is chosen, or nobody can be asked; NotFound, Cancelled.
    """
    store = opened.store
    if not ids and which is None:
        raise BadInput(
            f"no job to {action.verb} is named",
            fix="give ids, or a filter such as --state, --label or --since",
        )
    if ids and which is not None and not action.needs_no_filter:
        raise BadInput("ids and a filter do not go together", fix="leave one of them out")
    if ids:
        refs = list(dict.fromkeys(resolve(store, opened.tenant, text) for text in ids))
    else:
        assert which is not None
        refs = [job.ref for job in find(store, which)]
        if not dry_run:
            _require_consent(action, len(refs), yes)
    if dry_run:
        if as_json:
            print_json({"dry_run": True, "jobs": [{"tenant": ref.tenant, "id": ref.id} for ref in refs]})
        else:
            print("\n".join([*map(str, refs), f"{len(refs)} jobs to {action.verb}"]))
        return 0
    return _all(store, action, refs, as_json)


def _all(store: JobStore, action: Action, refs: list[JobRef], as_json: bool) -> int:
    def one(ref: JobRef) -> JobView | IfmdmError:
        try:
            return action.do(store, ref)
        except IfmdmError as error:
            return error

    if not refs and not as_json:
        print(f"ifmdm: no jobs to {action.verb}", file=sys.stderr)
    code, told = 0, []
    with ThreadPoolExecutor(READERS, thread_name_prefix=action.verb) as pool:
        for ref, found in zip(refs, pool.map(one, refs)):
            if isinstance(found, IfmdmError):
                code = code or found.exit_code
                told.append(_values(ref, error=Fault.of(found).model_dump(mode="json")))
                if not as_json:
                    print(f"ifmdm: {plain(found)}", file=sys.stderr)
                continue
            stopping = found.wished("stop") and not found.state.resting
            told.append(_values(ref, state=found.state.state, stopping=stopping))
            if not as_json:
                print(f"{ref} is {found.state.state}{', and asked to stop' if stopping else ''}")
    if as_json:
        print_json({"jobs": told})
    return code


def _values(ref: JobRef, **more: Any) -> dict[str, Any]:
    return {"tenant": ref.tenant, "id": ref.id, "error": None, **more}


def _require_consent(action: Action, count: int, yes: bool) -> None:
    if yes or not count:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"this would {action.verb} {count} jobs", fix="--yes does so; --dry-run says which")
    if not typer.confirm(f"{action.verb} {count} jobs?", err=True):
        raise Cancelled("nothing was done")
