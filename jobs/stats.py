"""How much waits, runs and has ended, how fast, and who works: from hints, with a sample of jobs read for times."""

from __future__ import annotations

import heapq
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ifmdm_core.errors import Conflict, NotFound, Unsupported
from jobs.entries import JobState
from jobs.listing import READERS, beats
from jobs.names import Ended, JobRef, Later, Running, day
from jobs.scan import store_time
from jobs.store import JobStore

HOUR_S = 3600.0
SAMPLE = 400
"""Jobs that ended in the last hour, the latest, whose times are read."""


@dataclass(frozen=True)
class Times:
    """Seconds, of a sample."""

    p50: float
    p95: float

    @classmethod
    def of(cls, values: list[float]) -> Times | None:
        """None of none."""
        if not values:
            return None
        ordered = sorted(values)
        return cls(*(round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 3) for q in (0.5, 0.95)))


@dataclass
class Stats:
    """A store at one moment."""

    states: dict[str, dict[str, int]]
    """tenant → state → jobs. `later` are queued for a time to come; ended ones are those of the last days."""
    days: float
    """For which ended jobs are counted."""
    ended_last_hour: dict[str, int]
    """State → jobs."""
    wait: Times | None
    """From being queued to the start of the last attempt, of jobs that ended in the last hour."""
    run: Times | None
    """From there to the end."""
    workers: list[dict[str, Any]] = field(default_factory=list)
    """Those alive: name, host, slots, jobs."""

    @property
    def slots(self) -> int:
        """Jobs that can run at once."""
        return sum(worker["slots"] for worker in self.workers)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "slots": self.slots}


def stats(store: JobStore, tenants: list[str] | None = None, days: float = 1.0) -> Stats:
    """What there is. Raises Unavailable, Forbidden, NotFound where there is no store."""
    storage, now = store.storage, store_time(store.storage)
    counts: dict[str, Counter[str]] = {}
    latest: list[tuple[float, JobRef]] = []
    last_hour: Counter[str] = Counter()

    def count(tenant: str, state: str) -> None:
        if tenants is None or tenant in tenants:
            counts.setdefault(tenant, Counter())[state] += 1

    for tenant in storage.folders("queue/") if tenants is None else tenants:
        for _ in storage.list(f"queue/{tenant}/"):
            count(tenant, "queued")
    for item in storage.list("later/"):
        if (later := Later.parse(item.key)) is not None:
            count(later.job.tenant, "later")
    for item in storage.list("running/"):
        if (running := Running.parse(item.key)) is not None:
            count(running.job.tenant, "running")
    first = day(now - days * 24 * HOUR_S)
    for tenant in storage.folders("ended/") if tenants is None else tenants:
        for name in storage.folders(f"ended/{tenant}/"):
            if name < first:
                continue
            for item in storage.list(f"ended/{tenant}/{name}/"):
                ended, age = Ended.parse(item.key), now - item.modified.timestamp()
                if ended is None or age > days * 24 * HOUR_S:
                    continue
                count(tenant, ended.state)
                if age <= HOUR_S and ended.state != "suspended":
                    last_hour[ended.state] += 1
                    latest.append((-age, ended.job))
    sample = _states(store, [ref for _, ref in heapq.nlargest(SAMPLE, latest)])
    ran = [state for state in sample if state.started_at is not None and state.ended_at is not None]
    alive = [
        {"name": beat.worker, "host": beat.host, "slots": beat.slots, "jobs": sorted(beat.jobs)}
        for beat in beats(store).values()
    ]
    return Stats(
        states={tenant: dict(sorted(found.items())) for tenant, found in sorted(counts.items())},
        days=days,
        ended_last_hour=dict(sorted(last_hour.items())),
        wait=Times.of([max(0.0, state.started_at - state.queued_at) for state in ran if state.started_at]),
        run=Times.of(
            [state.ended_at - state.started_at for state in ran if state.started_at and state.ended_at]
        ),
        workers=alive,
    )


def _states(store: JobStore, refs: list[JobRef]) -> list[JobState]:
    def read(ref: JobRef) -> JobState | None:
        try:
            return store.view(ref).state
        except (NotFound, Conflict, Unsupported):
            return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        return [state for state in pool.map(read, refs) if state is not None]
