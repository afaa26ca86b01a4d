"""What the page shows, read from the store. Many people may look at once, so what was just read is shown again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from ifmdm_core.storage import Storage
from jobs.client import writer_name
from jobs.clock import Clock, SystemClock
from jobs.heartbeat import Beat
from jobs.listing import Job, Which, beats, find, progress_of, read_job, remaining_s
from jobs.logs import attempts
from jobs.names import JobRef
from jobs.stats import Times
from jobs.store import JobStore
from jobs.timeline import timeline
from jobs.why import last_hour, why

TABLE_S = 1.5
"""Seconds for which a table counts as the present."""
RESTING_S = 30.0
"""And a job in which nothing happens by itself."""
PACE_S = 120.0
"""And the pace at which jobs run, which takes many reads."""
COUNTED = 1000
"""Waiting jobs that are counted."""
KEPT = 5000
"""Things kept at most."""

Value = TypeVar("Value")


class Sights:
    """Reads for the page. For any number of threads.

    Args:
        clock: for tests.
    """

    def __init__(self, storage: Storage, clock: Clock | None = None) -> None:
        self.storage, self._clock = storage, clock or SystemClock()
        self._turn = threading.Lock()
        self._kept: dict[Any, tuple[float, Any]] = {}

    def store(self, caller: str) -> JobStore:
        """The store, with the caller's name under what is written."""
        return JobStore(self.storage, writer_name(f"page.{caller}"), self._clock)

    def table(self, which: Which, limit: int) -> dict[str, Any]:
        """Rows and what is above them. Raises Unavailable, Forbidden."""
        key = ("table", repr(which), limit)
        return self._lately(key, TABLE_S, lambda: self._table(which, limit))

    def job(self, ref: JobRef) -> dict[str, Any]:
        """Everything about one job. Raises NotFound, Conflict, Unsupported, Unavailable."""
        store = self.store("page")
        job = read_job(store, ref)
        alive = self._alive() if job.view.state.state == "running" else {}
        reasons = []
        if job.view.state.state in ("queued", "done"):
            reasons = self._lately(("why", ref, job.view.seq), 10.0, lambda: why(store, ref, self._pace))
        video = job.view.state.video
        there = video is not None and not job.view.final and self.storage.info(video.key) is not None
        return {
            **self._row(job, alive),
            "job": job.record.job.model_dump(mode="json"),
            "bundle": job.view.state.bundle,
            "timeline": [asdict(moment) for moment in timeline(store, job.view, job.record)],
            "why": [asdict(reason) for reason in reasons],
            "logs": attempts(store, ref),
            "watchable": there,
        }

    def tenants(self) -> list[str]:
        """Everybody who has jobs. Raises Unavailable, Forbidden."""
        return self._lately(("tenants",), RESTING_S, lambda: self.storage.folders("jobs/"))

    def forget(self) -> None:
        """Somebody did something to a job: what was read is no longer the present."""
        with self._turn:
            self._kept = {key: kept for key, kept in self._kept.items() if key[0] == "pace"}

    def _table(self, which: Which, limit: int) -> dict[str, Any]:
        store, alive = self.store("page"), self._alive()
        found = list(itertools.islice(find(store, which, self._read), limit + 1))
        tenants = list(which.tenants) if which.tenants is not None else self.storage.folders("queue/")
        waiting = sum(1 for tenant in tenants for _ in self.storage.list(f"queue/{tenant}/", limit=COUNTED))
        return {
            "now": self._clock.now(),
            "jobs": [self._row(job, alive) for job in found[:limit]],
            "more": len(found) > limit,
            "waiting": waiting,
            "waiting_most": COUNTED,
            "workers": len(alive),
            "slots": sum(beat.slots for beat in alive.values()),
            "busy": sum(len(beat.jobs) for beat in alive.values()),
        }

    def _row(self, job: Job, alive: dict[str, Beat]) -> dict[str, Any]:
        progress = progress_of(job.view, alive)
        left = remaining_s(job.view, progress, self._clock.now())
        far = None
        if progress is not None:
            far = {"frames": progress.frames, "total": progress.total, "remaining_s": left}
        silent = job.view.state.state == "running" and job.view.state.worker not in alive
        return {**job.summary(), "progress": far, "silent": silent}

    def _read(self, store: JobStore, ref: JobRef) -> Job:
        kept = self._kept.get(("job", ref))
        if kept is not None and self._clock.monotonic() - kept[0] < RESTING_S:
            job: Job = kept[1]
            return job
        job = read_job(store, ref)
        if job.view.state.resting:
            self._keep(("job", ref), job)
        return job

    def _alive(self) -> dict[str, Beat]:
        return self._lately(("beats",), TABLE_S, lambda: beats(self.store("page")))

    def _pace(self, store: JobStore) -> Times | None:
        return self._lately(("pace",), PACE_S, lambda: last_hour(store))

    def _lately(self, key: Any, seconds: float, read: Callable[[], Value]) -> Value:
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() - kept[0] < seconds:
            found: Value = kept[1]
            return found
        found = read()
        self._keep(key, found)
        return found

    def _keep(self, key: Any, value: Any) -> None:
        with self._turn:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = (self._clock.monotonic(), value)
