"""Workers as actors on a Ray cluster, spread over its nodes. Losing the cluster loses no job: they are in the store."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import ray

from ifmdm_core.errors import IfmdmError, Unavailable
from jobs.rendering.served_bundles import ServedBundles
from jobs.running.hosted import HostedWorker, WorkerStatus
from jobs.running.options import WorkOptions

CPUS = 0.1
"""Of a worker, for placement: it waits for stages most of the time."""
LEAVE_S = 120.0
"""Longest wait for workers to give their jobs back."""
FAULT_PAUSE_S = 5.0
"""Before a worker that failed is started again."""

_log = logging.getLogger(__name__)


class JobWorker:
    """One worker; Ray starts it again, under another name, when its process or its node is lost."""

    def __init__(self, options: WorkOptions) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._hosted = HostedWorker(options, ServedBundles(options.serve))
        self._thread = self._hosted.begin(self._ended)

    def status(self) -> WorkerStatus:
        """How far it is."""
        return self._hosted.status()

    def leave(self) -> None:
        """Gives everything back; returns when it has."""
        self._hosted.leave()
        self._thread.join(LEAVE_S)

    def _ended(self) -> None:
        if self._hosted.fault is not None:
            time.sleep(FAULT_PAUSE_S)
            os._exit(1)  # an actor whose worker has ended would do nothing for ever


class Workers:
    """So many of them on the cluster this process is connected to. Close it in the end.

    Raises Unavailable when the first of them does not start.
    """

    def __init__(self, options: WorkOptions, count: int, start_s: float = 180.0) -> None:
        actor: Any = ray.remote(JobWorker)
        placed = actor.options(max_restarts=-1, num_cpus=CPUS, scheduling_strategy="SPREAD")
        self._actors = [placed.remote(options) for _ in range(count)]
        ready, _ = ray.wait([actor.status.remote() for actor in self._actors], num_returns=1, timeout=start_s)
        if not ready:
            raise Unavailable(
                f"no worker started in {start_s:.0f} s", fix="make room on the cluster: see ray status"
            )
        try:
            ray.get(ready)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            raise (
                cause if isinstance(cause, IfmdmError) else Unavailable(f"no worker started: {error}")
            ) from None

    def status(self) -> list[WorkerStatus]:
        """What each says of itself; those that do not answer right now are left out."""
        asked = [actor.status.remote() for actor in self._actors]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=2.0)
        found = []
        for answer in ready:
            try:
                found.append(ray.get(answer))
            except ray.exceptions.RayError as error:
                _log.warning("a worker does not answer: %s", str(error).splitlines()[0])
        return found

    def close(self) -> None:
        """Has them give back their jobs, and ends them."""
        leaving = [actor.leave.remote() for actor in self._actors]
        ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_S)
        for actor in self._actors:
            ray.kill(actor)
