"""`ifmdm jobs logs ID`: what attempts wrote down."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ifmdm_core.errors import NotFound
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
from jobs.commands.show import JobArgument
from jobs.commands.tables import plain
from jobs.listing import resolve
from jobs.logs import Line, attempt_log, attempts
from jobs.names import JobRef
from jobs.store import JobStore

PAUSE_S = 2.0

app = command_app()


@app.command()
def logs(
    id: JobArgument,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="only that one; default: all")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the job has ended")] = False,
    as_json: JsonOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Print the logs of a job's attempts; each is there when its attempt is over. --json prints lines of JSON."""
    store = open_store(root, tenant, endpoint, profile, role).store
    ref = resolve(store, tenant, id)
    shown = 0
    for epoch, line in _lines(store, ref, attempt, follow):
        shown += 1
        if as_json:
            print(json.dumps({"attempt": epoch, **line}, ensure_ascii=False), flush=True)
        else:
            print(_told(epoch, line), flush=True)
    if not shown:
        raise NotFound(
            f"there is no log of job {ref} yet"
            if attempt is None
            else f"job {ref} has no log of attempt {attempt}",
            fix="it is written when an attempt ends, and cleaned up some days after the job's end",
        )


def _lines(store: JobStore, ref: JobRef, only: int | None, follow: bool) -> Iterator[tuple[int, Line]]:
    done: set[int] = set()
    while True:
        state = store.view(ref).state  # before the logs: what ends after this look is met by the next
        for epoch in attempts(store, ref):
            if epoch not in done and only in (None, epoch):
                for line in attempt_log(store, ref, epoch):
                    done.add(epoch)
                    yield epoch, line
        if not follow or state.terminal or (only is not None and only in done):
            return
        if not done:
            print(f"ifmdm: job {ref} is {state.state}; waiting", file=sys.stderr)
        store.clock.sleep(PAUSE_S)


def _told(epoch: int, line: dict[str, Any]) -> str:
    fields = " ".join(
        f"{name}={_short(value)}" for name, value in line.items() if name not in ("time", "event")
    )
    return plain(f"{line.get('time', '?')}  attempt {epoch}  {line.get('event', '?')}  {fields}".rstrip())


def _short(value: Any) -> str:
    return value if isinstance(value, str) and " " not in value else json.dumps(value, ensure_ascii=False)
