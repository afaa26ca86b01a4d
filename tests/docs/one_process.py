"""Extraction without Ray, for what the documents type: the real workers, one after the other, in this process.

tests/pipelines/run has the same commands on a real Ray; starting it here would cost more than all else that is run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

from pipelines.run.cluster import Cluster
from pipelines.run.pool import Job, Outcome


class PoolHere:
    """Stands for `pipelines.run.pool.Pool`: one worker, no retries."""

    def __init__(self, make: Callable[[], Any], size: int, **_: object) -> None:
        self._make, self._worker, self.running = make, None, 0

    def __enter__(self) -> PoolHere:
        self._worker = self._make()
        self._worker.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker = None

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes in the order of the jobs. What a worker raises ends the command."""
        for job in jobs:
            began = time.monotonic()
            value = getattr(self._worker, job.method)(job.payload)
            yield Outcome(job, value, None, "here", time.monotonic() - began, 1)


def _start(kind: type, settings: object, *arguments: object) -> object:
    return kind(*arguments, settings)


@contextlib.contextmanager
def _connect(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    yield Cluster(address="here", local=True, nodes=1, cpus=1, gpus=0)


@contextlib.contextmanager
def extraction_here() -> Iterator[None]:
    """For the block, commands that would start Ray workers do their work in this process."""
    with (
        mock.patch("pipelines.run.pool.Pool", PoolHere),
        mock.patch("pipelines.run.workers.start", _start),
        mock.patch("pipelines.run.workers._here", return_value="here"),
        mock.patch("pipelines.run.cluster.connect", _connect),
    ):
        yield
