"""What a job asks of S3, and what that costs: figures that were counted, each with where."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.heartbeat import BEATS, TAKEOVER_S

DAY_S = 86_400.0


@dataclass(frozen=True)
class Requests:
    """Requests by kind. S3 charges LIST like PUT, HEAD like GET, and nothing for DELETE."""

    put: float
    get: float
    list: float
    delete: float = 0.0

    def times(self, count: float) -> Requests:
        """Of so many."""
        return Requests(self.put * count, self.get * count, self.list * count, self.delete * count)

    def plus(self, other: Requests) -> Requests:
        """Both together."""
        return Requests(
            self.put + other.put, self.get + other.get, self.list + other.list, self.delete + other.delete
        )

    @property
    def dollars(self) -> float:
        return (self.put + self.list) * PUT_DOLLARS + self.get * GET_DOLLARS


PUT_DOLLARS, GET_DOLLARS = 0.005 / 1000, 0.0004 / 1000
"""A request: S3 Standard in most regions; also in tests/benchmarks/counted_storage.py."""
PER_JOB = Requests(put=10.02, get=10.02, list=1.13, delete=2.0)
"""Submit to published: docs/bench-jobs-s3.json, `requests_per_job`."""
JOBS_PREFIX_WRITES = 5.0
"""PUT and LIST of a job below `jobs/`, the prefix with the most: docs/bench-jobs-s3.json, `folders_per_job`."""
PREFIX_WRITES_MOST = 3500.0
"""PUT a second that S3 takes below one prefix before it splits it; Amazon S3's user guide, "Optimizing performance"."""
PER_WORKER_DAY = Requests(put=BEATS / TAKEOVER_S * DAY_S, get=0.1 * DAY_S, list=0.34 * DAY_S)
"""Of a worker that is never idle: a heartbeat every ten seconds, a look at who runs every three (jobs.scheduler),
and its part in sweeping. An idle one asks for less than that after a few minutes (docs/performance.md, Render jobs)."""
