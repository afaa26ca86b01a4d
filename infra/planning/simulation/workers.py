"""Job workers in simulated time: the loop of `jobs.worker.Worker` around the real scheduler, job log and sweeper.

Everything that asks the store happens at one instant, by the code that asks it in reality; what takes time (claiming,
inputs, stages, the file) are waits of the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import simpy

from infra.planning.simulation.book import Book
from infra.planning.simulation.renders import Work, frames_of
from infra.planning.simulation.stages import Stage
from infra.planning.workload import PlannedJob
from jobs import entries
from jobs.entries import Video
from jobs.heartbeat import BEATS, TAKEOVER_S, Beat, JobBeat, Progress, write_beat
from jobs.names import JobRef, Running, heartbeat
from jobs.scheduler import Claim, Scheduler
from jobs.settle import follow
from jobs.sweeper import Sweeper
from jobs.tenants import Places
from jobs.worker import IDLE_MOST_S, IDLE_PART, IDLE_S, SWEEPS

_VIDEO = Video(epoch=1, key="attempts/video.mp4", sha256="2" * 64, size=1, frames=1, fps=25)


@dataclass(frozen=True)
class Ears:
    """Who is told what happens to jobs."""

    claimed: Callable[[JobRef, int], None]
    """With the number of the attempt."""
    published: Callable[[JobRef], None]
    swept: Callable[[], None]


class SimWorker:
    """One worker.

    Args:
        work_of: what a job takes.
        claim_s: seconds from a free slot to the next job's begin.
        start_s: seconds that its first jobs wait for its model.
    """

    def __init__(
        self, env: simpy.Environment, book: Book, stages: Mapping[str, Stage], work_of: Callable[[PlannedJob], Work],
        ears: Ears, name: str, slots: int, claim_s: float, start_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._env, self._book, self._stages, self._work_of, self._ears = env, book, stages, work_of, ears
        self.slots, self._claim_s, self._start_s = slots, claim_s, start_s
        self.store = book.store(name)
        self.scheduler, self.sweeper = Scheduler(self.store), Sweeper(self.store, Places())
        self.leaving = False
        self.jobs: dict[JobRef, Progress] = {}
        self._attempts: dict[JobRef, simpy.Process] = {}
        self._alone = False
        self._freed = env.event()
        self._loaded: simpy.Event | None = None
        self.beat()
        for loop in (self._work(), self._beat_on(), self._sweep_on()):
            env.process(loop)

    def leave(self) -> None:
        """SIGTERM: everything is given back."""
        self.leaving = True
        for attempt in list(self._attempts.values()):
            attempt.interrupt("released")
        self.store.storage.delete(heartbeat(self.store.by))

    def kill(self) -> None:
        """Its node is gone; what it had is left to others' sweepers."""
        self.leaving = True
        for attempt in list(self._attempts.values()):
            attempt.interrupt("lost")

    def _work(self) -> Generator[simpy.Event, Any, None]:
        env, chance = self._env, self._book.clock.chance
        idle_since, was_full = float(env.now), False
        while not self.leaving:
            if len(self.jobs) >= self.slots or self._alone:
                was_full, self._freed = True, env.event()
                yield self._freed
                continue
            if was_full:
                # From a free slot to the next begin: what it takes to notice, and the claim.
                yield env.timeout(self._claim_s)
                was_full = False
                continue
            claim = self.scheduler.next(alone=not self.jobs)
            if claim is None:
                pause = min(IDLE_MOST_S, max(IDLE_S, (env.now - idle_since) * IDLE_PART))
                yield env.timeout(pause * chance.uniform(0.5, 1.5))
                continue
            self._begin(claim)
            idle_since = float(env.now)

    def _begin(self, claim: Claim) -> None:
        self.jobs[claim.ref] = Progress(claim.seq)
        self._alone = claim.state.solo
        self._ears.claimed(claim.ref, claim.state.epoch)
        self._attempts[claim.ref] = self._env.process(self._attempt(claim))

    def _attempt(self, claim: Claim) -> Generator[simpy.Event, Any, None]:
        env, ref, seq = self._env, claim.ref, claim.seq
        work, progress = self._work_of(self._book.planned[ref.id]), self.jobs[claim.ref]
        hint = Running(self.store.by, ref, seq)
        try:
            if self._start_s:
                yield from self._model()
            yield env.timeout(work.inputs)
            yield from frames_of(env, self._stages, work, lambda done: progress.step(round(100 * done), 100))
            yield env.timeout(work.finish + work.publish)
            now = self._book.clock.now()
            state = entries.done(claim.state, _VIDEO.model_copy(update={"epoch": claim.state.epoch}), {}, now)
            # Both at one instant: a loss between them is the sweeper's matter, which would need a real output.
            if self.store.append(ref, seq + 1, "done", state):
                state = entries.published(state)
                if self.store.append(ref, seq + 2, "published", state):
                    follow(self.store, ref, seq + 2, state, claim.record)
                    self._ears.published(ref)
            self.store.storage.delete(hint.key)
        except simpy.Interrupt as stop:
            if stop.cause == "released":
                state = entries.released(claim.state, progress.frames, {}, self._book.clock.now())
                if self.store.append(ref, seq + 1, "released", state):
                    follow(self.store, ref, seq + 1, state, claim.record)
                self.store.storage.delete(hint.key)
        self._end(ref)

    def _end(self, ref: JobRef) -> None:
        del self.jobs[ref], self._attempts[ref]
        self._alone = False
        self.scheduler.ended(ref.tenant)
        if not self._freed.triggered:
            self._freed.succeed()

    def _model(self) -> Generator[simpy.Event, Any, None]:
        """Loaded once, by the first who needs it; the others wait."""
        if self._loaded is None:
            self._loaded = self._env.timeout(self._start_s)
        if not self._loaded.processed:
            yield self._loaded

    def beat(self) -> None:
        """Its sign of life."""
        jobs = {
            str(ref): JobBeat(seq=p.seq, frames=p.frames, total=p.total, counter=p.counter)
            for ref, p in self.jobs.items()
        }
        beat = Beat(worker=self.store.by, host="simulated", slots=self.slots, started_at=0.0, jobs=jobs)
        write_beat(self.store.storage, beat)

    def _beat_on(self) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self._env.timeout(TAKEOVER_S / BEATS)
            if self.leaving:
                return
            self.beat()

    def _sweep_on(self) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self._env.timeout(TAKEOVER_S / SWEEPS * self._book.clock.chance.uniform(0.5, 1.5))
            if self.leaving:
                return
            if self.sweeper.due():
                self.sweeper.sweep()
                self._ears.swept()
