"""What Prometheus is told of a job store: a table of figures, and who looks for them now and then.

A scrape never waits for the store: a thread looks at it every LOOK_S while somebody scrapes, and the last good look is
what is told. Every gateway tells the same figures, so take the greatest over the label `gateway`.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ifmdm_core.errors import IfmdmError
from jobs.listing import beats
from jobs.names import Marker, Running, day
from jobs.scan import store_time
from jobs.store import JobStore
from serve.metric_table import MetricSpec

LOOK_S = 30.0
"""Between two looks; each lists queues and running jobs, and reads each worker's heartbeat."""
COUNTED = 10_000
"""Waiting jobs of a tenant that are counted, and dead ones; more read as that many."""
DAY_S = 86_400.0

METRICS = (
    MetricSpec("ifmdm_jobs_waiting", "gauge", f"Jobs in the queue, counted to {COUNTED}", ("tenant",)),
    MetricSpec("ifmdm_jobs_oldest_wait_seconds", "gauge", "Since the longest waiting job was queued", ("tenant",)),
    MetricSpec("ifmdm_jobs_running", "gauge", "Jobs that workers have claimed", ("tenant",)),
    MetricSpec(
        "ifmdm_jobs_dead", "gauge", f"Jobs given up today and yesterday (UTC), counted to {COUNTED}", ("tenant",)
    ),
    MetricSpec("ifmdm_job_workers", "gauge", "Job workers alive"),
    MetricSpec("ifmdm_job_slots", "gauge", "Jobs that these can run at once"),
    MetricSpec("ifmdm_jobs_seen_timestamp_seconds", "gauge", "When the store was last looked at, since 1970"),
)  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """A store at one moment; by tenant where there is a mapping."""

    waiting: dict[str, int] = field(default_factory=dict)
    oldest_s: dict[str, float] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    workers: int = 0
    slots: int = 0


def look(store: JobStore) -> Look:
    """Reads hints and heartbeats, no job. Raises Unavailable, Forbidden, NotFound where there is no store."""
    storage, now = store.storage, store_time(store.storage)
    waiting, oldest, dead = {}, {}, {}
    for tenant in storage.folders("queue/"):
        items = list(itertools.islice(storage.list(f"queue/{tenant}/"), COUNTED))
        queued = [item.modified.timestamp() for item in items if Marker.parse(item.key) is not None]
        waiting[tenant] = len(queued)
        oldest[tenant] = max(0.0, now - min(queued)) if queued else 0.0
    for tenant in storage.folders("ended/"):
        days = (day(now), day(now - DAY_S))
        ended = itertools.chain.from_iterable(storage.list(f"ended/{tenant}/{each}/dead/") for each in days)
        dead[tenant] = sum(1 for _ in itertools.islice(ended, COUNTED))
    claims = (Running.parse(item.key) for item in storage.list("running/"))
    alive = beats(store).values()
    return Look(
        waiting=waiting,
        oldest_s=oldest,
        running=dict(Counter(claim.job.tenant for claim in claims if claim is not None)),
        dead=dead,
        workers=len(alive),
        slots=sum(beat.slots for beat in alive),
    )


class JobFigures(Collector):
    """The last look at a store, as metrics. For any number of threads."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._turn = store, threading.Lock()
        self._seen: tuple[float, Look] | None = None
        self._asked_at = float("-inf")
        self._looking = False

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry would look at the store to find out."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What was seen last, and a look in the background when that is old; nothing before the first."""
        with self._turn:
            due = not self._looking and time.monotonic() - self._asked_at >= LOOK_S
            if due:
                self._looking, self._asked_at = True, time.monotonic()
        if due:
            threading.Thread(target=self.refresh, name="job-figures", daemon=True).start()
        if self._seen is not None:
            yield from _metrics(*self._seen)

    def refresh(self) -> None:
        """Looks now; a store that does not answer leaves what was seen before."""
        try:
            self._seen = time.time(), look(self._store)
        except IfmdmError as error:
            _log.warning("the job store is not looked at: %s", error)
        finally:
            self._looking = False


def _metrics(at: float, seen: Look) -> Iterable[Metric]:
    values: tuple[Mapping[str, float] | float, ...] = (
        seen.waiting, seen.oldest_s, {**dict.fromkeys(seen.waiting, 0), **seen.running}, seen.dead,
        seen.workers, seen.slots, at,
    )  # fmt: skip
    for spec, value in zip(METRICS, values, strict=True):
        metric = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels or None)
        if isinstance(value, Mapping):
            for label, number in value.items():
                metric.add_metric([label], number)
        else:
            metric.add_metric([], value)
        yield metric
