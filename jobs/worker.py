"""A worker: claims jobs, renders them, shows signs of life, sweeps now and then. Threads are the caller's.

Its loops are plain functions over an injected clock; `jobs/running/` runs them in threads, the simulation in turns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ifmdm_core.errors import IfmdmError, Unavailable
from jobs.attempt import Attempt
from jobs.heartbeat import BEATS, TAKEOVER_S, Beat, JobBeat, Progress, Stillness, write_beat
from jobs.names import JobRef, heartbeat
from jobs.rendering.contract import Renderer
from jobs.scheduler import Claim, Scheduler
from jobs.store import JobStore
from jobs.sweeper import STALL_S, Sweeper
from jobs.tenants import Places

IDLE_PART = 1 / 30
"""Of the time for which a worker has found nothing, the part that it pauses: the longer idle, the less it asks."""
IDLE_S, IDLE_MOST_S = 0.5, 10.0
"""The shortest and the longest of these pauses, give or take half."""
FULL_S = 0.05
"""Pause between two looks for a free slot."""
SWEEPS = 3
"""Passes of the sweeper in one worker in the time after which a worker counts as gone; give or take half."""

_log = logging.getLogger(__name__)


class Worker:
    """One process's share of the work.

    Args:
        store: whose `by` is this worker's name.
        slots: jobs at a time.
        spawn: runs a function beside the caller's.
        wanted: whether it can render with a bundle of that digest.
        host: for people.
        takeover_s: seconds without a heartbeat after which others take its jobs.
    """

    def __init__(
        self,
        store: JobStore,
        places: Places,
        renderer: Renderer,
        slots: int = 1,
        *,
        spawn: Callable[[Callable[[], None]], None],
        wanted: Callable[[str], bool] = lambda bundle: True,
        host: str = "",
        takeover_s: float = TAKEOVER_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.store, self.places, self.renderer, self.slots = store, places, renderer, slots
        self.scheduler = Scheduler(store)
        self.sweeper = Sweeper(store, places, stall_s, takeover_s)
        self.leaving = False
        """Set it to have everything given back."""
        self.jobs: dict[JobRef, Progress] = {}
        """What runs here."""
        self.finished = 0
        """Attempts that have ended, whatever their verdict."""
        self._alone = False
        self._spawn, self._wanted, self._host, self._takeover_s = spawn, wanted, host, takeover_s
        self._started_at = store.clock.now()
        self._stillness = Stillness(store.clock, 2 * takeover_s / BEATS)

    def work(self) -> None:
        """Claims and renders until told to leave, then waits until everything is given back."""
        self._first_beat()
        clock = self.store.clock
        idle_since = clock.monotonic()
        while not self.leaving:
            if len(self.jobs) >= self.slots or self._alone:
                clock.sleep(FULL_S)
            elif self._begin_one():
                idle_since = clock.monotonic()
            else:
                pause = (clock.monotonic() - idle_since) * IDLE_PART
                clock.sleep(min(IDLE_MOST_S, max(IDLE_S, pause)) * clock.chance.uniform(0.5, 1.5))
        while self.jobs:
            clock.sleep(FULL_S)

    def beat(self) -> None:
        """Shows that it is alive, and how far its jobs are. Raises Unavailable."""
        running = dict(self.jobs)
        still_s = self._stillness.look(running)
        jobs = {
            str(ref): JobBeat(
                seq=p.seq, frames=p.frames, total=p.total, counter=p.counter, still_s=still_s[ref]
            )
            for ref, p in running.items()
        }
        write_beat(
            self.store.storage,
            Beat(
                worker=self.store.by,
                host=self._host,
                slots=self.slots,
                started_at=self._started_at,
                takeover_s=self._takeover_s,
                jobs=jobs,
            ),
        )

    def beat_on(self, over: Callable[[], bool]) -> None:
        """`beat` again and again, until `over()`."""
        while not over():
            try:
                self.beat()
            except IfmdmError as error:
                _log.warning("no heartbeat: %s", error)
            self.store.clock.sleep(self._takeover_s / BEATS)

    def sweep_on(self, over: Callable[[], bool], swept: Callable[[], object] = lambda: None) -> None:
        """A pass of the sweeper now and then, unless another worker does it, and `swept` after it, until `over()`."""
        while not over():
            self.store.clock.sleep(self._takeover_s / SWEEPS * self.store.clock.chance.uniform(0.5, 1.5))
            if over():
                return
            try:
                if not self.sweeper.due():
                    continue
                for problem in self.sweeper.sweep().problems:
                    _log.warning("sweeper: %s", problem)
            except IfmdmError as error:
                _log.warning("sweeper: %s", error)
            swept()

    def _first_beat(self) -> None:
        """A claim of a worker that never showed a sign of life would be taken for a dead one's."""
        while not self.leaving:
            try:
                self.beat()
                return
            except Unavailable as error:
                _log.warning("no heartbeat yet: %s", error)
            self.store.clock.sleep(IDLE_S)

    def _begin_one(self) -> bool:
        """Claims a job and begins it; False when there is none."""
        try:
            claim = self.scheduler.next(alone=not self.jobs, wanted=self._wanted)
        except IfmdmError as error:
            _log.warning("cannot look for jobs: %s", error)
            return False
        if claim is None:
            return False
        progress = Progress(claim.seq)
        self.jobs[claim.ref] = progress
        self._alone = claim.state.solo
        self._spawn(lambda: self._run(claim, progress))
        return True

    def _run(self, claim: Claim, progress: Progress) -> None:
        ref = claim.ref
        _log.info(
            "attempt %d of %s", claim.state.epoch, ref, extra={"job": str(ref), "epoch": claim.state.epoch}
        )
        try:
            Attempt(self.store, self.places, self.renderer, claim, progress, lambda: self.leaving).run()
        except Unavailable as error:
            _log.warning("%s is left to the sweeper: %s", ref, error)
        except Exception:
            _log.exception("%s is left to the sweeper", ref)
        finally:
            if self.jobs.get(ref) is progress:  # a later attempt at it may run here already
                del self.jobs[ref]
            self._alone = False
            self.finished += 1
            self.scheduler.ended(ref.tenant)

    def sign_off(self) -> None:
        """Its heartbeat goes: whatever it left undone is somebody else's from now on. After the last `beat`."""
        try:
            self.store.storage.delete(heartbeat(self.store.by))
        except IfmdmError as error:
            _log.warning("could not sign off: %s", error)
