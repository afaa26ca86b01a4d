"""A fixed pool of Ray actors that works through jobs: each has a deadline, may run twice, and runs again elsewhere
when its worker, node or store fails it. The slow last few are started a second time; whoever is first wins.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from ifmdm_core.errors import Busy, DiskFull, Expired, IfmdmError, Unavailable

log = logging.getLogger(__name__)

START_S = 180.0
"""Longest wait for the first worker to be ready."""
SLOW = 2.0
"""A running job this many times slower than the median of the finished ones is started a second time."""
TICK_S = 0.25


@dataclass(frozen=True)
class Job:
    """Something to do: the worker's method is called with `payload`."""

    name: str
    method: str
    payload: Any
    cost: float
    """Size by which durations are compared, e.g. seconds of video."""
    deadline_s: float


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a value, or the error of its last attempt."""

    job: Job
    value: Any
    error: Exception | None
    node: str
    seconds: float
    attempts: int


@dataclass
class _Slot:
    """One actor. `ref` is what it is doing: starting (no job), or a job."""

    actor: Any
    ref: Any
    started: float
    job: Job | None = None
    ready: bool = False
    node: str = ""


@dataclass
class Pool:
    """Args:
    make: starts an actor; it has a method `ready()` that loads its models and returns its node's name.
    size: number of actors; on a smaller cluster the rest stay pending and the others do the work.
    attempts: tries of a job before it is given up (lost workers, deadlines, storage faults).
    on_retry: told the job's name and the cause, for people.
    """

    make: Callable[[], Any]
    size: int
    attempts: int = 4
    on_retry: Callable[[str, str], None] = lambda name, cause: log.warning("%s: %s", name, cause)
    clock: Callable[[], float] = time.monotonic
    _slots: list[_Slot] = field(default_factory=list)

    def __enter__(self) -> Pool:
        self._slots = [self._start() for _ in range(self.size)]
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots = []

    @property
    def running(self) -> int:
        """Jobs at work now."""
        return sum(slot.job is not None for slot in self._slots)

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes as they come, in any order, one for each job. Jobs are taken in order.

        Raises:
            Unavailable: no worker could be started.
            IfmdmError: what a worker's `ready` raised; and faults that no retry can mend, such as a full disk.
        """
        queue = deque(jobs)
        tries: dict[str, int] = {}
        waiting: list[tuple[float, Job]] = []  # jobs in their back-off
        done: set[str] = set()
        paces: list[float] = []
        begun = self.clock()
        while queue or waiting or any(s.job and s.job.name not in done for s in self._slots):
            now = self.clock()
            queue.extend(job for at, job in waiting if at <= now)
            waiting = [(at, job) for at, job in waiting if at > now]
            self._assign(queue, paces, done)
            if not any(slot.ready for slot in self._slots) and now - begun > START_S:
                raise Unavailable(
                    f"no worker started within {START_S:.0f} s",
                    fix="ask for fewer CPUs or GPUs a worker; `ray status` shows what the cluster has",
                )
            refs = [slot.ref for slot in self._slots if slot.ref is not None]
            finished = ray.wait(refs, num_returns=1, timeout=TICK_S)[0] if refs else []
            for slot in [s for s in self._slots if s.ref in finished]:
                job, seconds = slot.job, self.clock() - slot.started
                value, error = self._collect(slot)
                if job is None or job.name in done:
                    continue
                tries[job.name] = tries.get(job.name, 0) + 1
                if error is None:
                    paces.append(seconds / max(job.cost, 1e-9))
                elif self._may_retry(error, tries[job.name]):
                    self.on_retry(job.name, _cause(error))
                    if not any(s.job is job for s in self._slots):  # its double may still finish
                        pause = getattr(error, "retry_after", 0.0) * 2 ** (tries[job.name] - 1)
                        waiting.append((self.clock() + min(pause, 60.0), job))
                    continue
                done.add(job.name)
                self._stop_doubles(job)
                yield Outcome(job, value, error, slot.node, seconds, tries[job.name])
            yield from self._enforce_deadlines(queue, tries, done)

    def _start(self) -> _Slot:
        actor = self.make()
        return _Slot(actor, actor.ready.remote(), self.clock())

    def _assign(self, queue: deque[Job], paces: list[float], done: set[str]) -> None:
        for slot in self._slots:
            if slot.job is not None or not slot.ready:
                continue
            job = queue.popleft() if queue else self._straggler(paces, done, slot)
            if job is not None:
                slot.job, slot.started = job, self.clock()
                slot.ref = getattr(slot.actor, job.method).remote(job.payload)

    def _straggler(self, paces: list[float], done: set[str], idle: _Slot) -> Job | None:
        """A running job that is late by the pace of the others and has no double, from another node if possible."""
        if len(paces) < 3:
            return None
        pace = statistics.median(paces)
        late = []
        for slot in self._slots:
            job = slot.job
            if job is None or job.name in done or sum(s.job is job for s in self._slots) > 1:
                continue
            if self.clock() - slot.started > SLOW * pace * job.cost + 5.0:
                late.append((slot.node == idle.node, slot.started, job))
        return min(late, key=lambda entry: entry[:2])[2] if late else None

    def _collect(self, slot: _Slot) -> tuple[Any, Exception | None]:
        """The result of what the slot did; a dead actor is replaced, an idle one waits for its next job."""
        was_starting = slot.job is None
        slot.job = None
        try:
            value = ray.get(slot.ref, timeout=30)
        except RayTaskError as error:
            slot.ref = None
            cause = error.cause if isinstance(error.cause, Exception) else error
            if was_starting:
                raise cause from None
            return None, cause
        except (RayActorError, GetTimeoutError, RayError) as error:
            self._replace(slot)
            return None, Unavailable(f"a worker was lost ({_short(error)})", retry_after=0.0)
        slot.ref = None
        if was_starting:
            slot.ready, slot.node = True, str(value)
        return value, None

    def _replace(self, slot: _Slot) -> None:
        ray.kill(slot.actor)
        self._slots[self._slots.index(slot)] = self._start()

    def _may_retry(self, error: Exception, tried: int) -> bool:
        if isinstance(error, DiskFull):
            raise error  # every other job would meet it too
        return isinstance(error, (Busy, Expired)) and tried < self.attempts

    def _stop_doubles(self, job: Job) -> None:
        for slot in [s for s in self._slots if s.job is job]:
            self._replace(slot)

    def _enforce_deadlines(
        self, queue: deque[Job], tries: dict[str, int], done: set[str]
    ) -> Iterator[Outcome]:
        """A job past its deadline loses its worker; it is tried again, and given up after the last attempt."""
        for slot in list(self._slots):
            job = slot.job
            if job is None or self.clock() - slot.started <= job.deadline_s:
                continue
            self.on_retry(job.name, f"no result within {job.deadline_s:.0f} s on {slot.node}")
            self._replace(slot)
            if job.name in done or any(s.job is job for s in self._slots):
                continue
            tries[job.name] = tries.get(job.name, 0) + 1
            if tries[job.name] < self.attempts:
                queue.append(job)
                continue
            done.add(job.name)
            error = Expired(
                f"{job.name} missed its deadline of {job.deadline_s:.0f} s {self.attempts} times",
                fix="see what hangs there, or raise --deadline-factor",
            )
            yield Outcome(job, None, error, slot.node, job.deadline_s, tries[job.name])


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, IfmdmError) else f"{type(error).__name__}: {error}"


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
