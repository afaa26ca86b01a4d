"""A worker in this process: threads for claiming, each job, signs of life and sweeping."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ifmdm_core.errors import IfmdmError
from ifmdm_core.storage import Storage
from jobs.clock import SystemClock
from jobs.heartbeat import TAKEOVER_S
from jobs.rendering.contract import Renderer
from jobs.store import JobStore
from jobs.sweeper import STALL_S
from jobs.tenants import Places
from jobs.worker import Worker

LEAVING_PAUSE_S = 0.2
"""Longest that anything sleeps once the worker leaves: its grace is short."""

FAULT_PAUSE_S = 5.0
"""Before a loop that failed goes on."""

Errand = Callable[[], object]
"""Something else that is done after a pass of the sweeper, such as the inbox."""

_log = logging.getLogger(__name__)


class LeavingClock(SystemClock):
    """This machine's clock, whose sleepers wake when the worker is told to leave."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving = threading.Event()

    def sleep(self, seconds: float) -> None:
        if self.leaving.is_set():
            super().sleep(min(seconds, LEAVING_PAUSE_S))
        else:
            self.leaving.wait(seconds)


class WorkerProcess:
    """Runs a worker until told to leave.

    Args:
        storage: the job store's root.
        name: which no other worker has, see `store.new_worker_name`.
        wanted: whether it can render with a bundle of that digest.
        takeover_s: seconds without a sign of life after which others take its jobs.
        stall_s: see `sweeper.STALL_S`.
    """

    def __init__(
        self,
        storage: Storage,
        places: Places,
        renderer: Renderer,
        *,
        name: str,
        slots: int = 1,
        host: str = "",
        wanted: Callable[[str], bool] = lambda bundle: True,
        takeover_s: float = TAKEOVER_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._clock = LeavingClock()
        self._slots = ThreadPoolExecutor(slots, "job")
        self.store = JobStore(storage, name, self._clock)
        self.worker = Worker(
            self.store, places, renderer, slots, spawn=self._spawn, wanted=wanted, host=host, takeover_s=takeover_s,
            stall_s=stall_s,
        )  # fmt: skip
        self._over, self._swept = threading.Event(), threading.Event()

    def run(self, errands: Sequence[Errand] = ()) -> None:
        """Works until `leave`, then gives back what it has and returns. Blocking.

        Args:
            errands: done one after the other whenever this worker has swept; of all workers one does at a time, about.
        """
        threads = [
            threading.Thread(target=self._endure, args=(loop, over), name=name, daemon=True)
            for name, loop, over in (
                ("heartbeat", lambda: self.worker.beat_on(self._over.is_set), self._over.is_set),
                ("sweeper", lambda: self.worker.sweep_on(self._left, self._swept.set), self._left),
                ("errands", lambda: self._run_errands(errands), self._left),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            self.worker.work()
        finally:
            self.leave()
            self._over.set()
            self._slots.shutdown(wait=True)
            for thread in threads:
                thread.join(30)
            self.worker.sign_off()

    def leave(self) -> None:
        """No further job is claimed; those that run are given back at their next chunk. From any thread."""
        self.worker.leaving = True
        self._clock.leaving.set()
        self._swept.set()

    def _left(self) -> bool:
        return self.worker.leaving

    def _spawn(self, job: Callable[[], None]) -> None:
        self._slots.submit(job)

    def _run_errands(self, errands: Sequence[Errand]) -> None:
        while not self._left():
            self._swept.wait()
            self._swept.clear()
            for errand in errands:
                if self._left():
                    return
                try:
                    errand()
                except IfmdmError as error:
                    _log.warning("%s", error)
                except Exception:
                    _log.exception("an errand failed")

    def _endure(self, loop: Callable[[], None], over: Callable[[], bool]) -> None:
        """A fault of ours must not leave a worker without a heartbeat, or a store without a sweeper."""
        while not over():
            try:
                loop()
            except Exception:
                _log.exception("%s goes on", threading.current_thread().name)
                self._clock.sleep(FAULT_PAUSE_S)
