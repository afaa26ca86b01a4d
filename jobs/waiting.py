"""Waiting for many jobs: what has ended is found by its hint, a listing for a thousand jobs; each is read once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from ifmdm_core.errors import Expired, IfmdmError
from jobs.client import JobClient
from jobs.many import each_of
from jobs.names import Ended, day
from jobs.store import JobView

PAUSE_S, PAUSE_MOST_S = 1.0, 15.0
READ_ANYHOW = 50
"""Waiting jobs that each pass reads whether there is a hint or not: hints may be lost."""
_DAY_S = 86400.0


def wait_all(client: JobClient, ids: Iterable[str], timeout_s: float | None = None) -> Iterator[JobView]:
    """Jobs as they end, in no order.

    Raises Expired after `timeout_s`, NotFound for one that is none, Conflict for a damaged one, Unavailable.
    """
    clock = client.store.clock
    until = None if timeout_s is None else clock.monotonic() + timeout_s
    pause, waiting = PAUSE_S, dict.fromkeys(ids)
    folders = [f"ended/{client.tenant}/"]
    began = clock.now() - _DAY_S  # clocks differ
    while True:
        found = set(_hinted(client, folders, waiting)) | set(itertools.islice(waiting, READ_ANYHOW))
        for id in found:  # those that were read and go on come last the next time
            waiting[id] = waiting.pop(id)
        yield from _ended(client, list(found), waiting)
        if not waiting:
            return
        if until is not None and clock.monotonic() >= until:
            raise Expired(
                f"{len(waiting)} jobs have not ended after {timeout_s:g} s", fix="they go on; wait longer"
            )
        clock.sleep(pause * clock.chance.uniform(0.8, 1.2))
        pause = min(PAUSE_MOST_S, 1.3 * pause)
        days = range(int(began // _DAY_S), int((clock.now() + _DAY_S) // _DAY_S) + 1)
        folders = [f"ended/{client.tenant}/{day(number * _DAY_S)}/" for number in days]


def _hinted(client: JobClient, folders: list[str], waiting: dict[str, None]) -> Iterator[str]:
    """Of the jobs that are waited for, those that seem to have ended."""
    for folder in folders:
        for item in client.store.storage.list(folder):
            ended = Ended.parse(item.key)
            if ended is not None and ended.job.id in waiting:
                yield ended.job.id


def _ended(client: JobClient, ids: list[str], waiting: dict[str, None]) -> Iterator[JobView]:
    """Reads jobs; those that have ended leave `waiting`."""
    for _, view in each_of(enumerate(ids), client.get, min(client.workers, max(1, len(ids)))):
        if isinstance(view, IfmdmError):
            raise view
        if view.state.terminal:
            del waiting[view.ref.id]
            yield view
