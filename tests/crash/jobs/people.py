"""Users and operators: they submit, change their minds, move what was published, clean up and mend, at any time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ifmdm_core.errors import IfmdmError, Unavailable
from ifmdm_core.storage.memory import Bucket
from jobs.entries import RETRIABLE
from jobs.fsck import repair
from jobs.gc import collect
from jobs.names import JobRef
from jobs.spec import RenderJob
from jobs.steer import reprioritise, resume, retry, stop
from jobs.store import JobStore
from jobs.submit import submit_job
from jobs.sweeper import Sweeper
from jobs.tenants import Places, read_policy
from tests.crash.jobs.hub import Process
from tests.crash.jobs.watch import Watch

PATIENCE = 6
"""Times that a person repeats what the store did not answer."""


@dataclass
class Stopped:
    """A user was told that a job would go no further."""

    job: str
    asked: int
    told: int
    """Places of the question and of the answer among all events."""


@dataclass
class Wishes:
    """What users were promised."""

    submitted: dict[str, RenderJob] = field(default_factory=dict)
    """By name, <tenant>/<id>."""
    stopped: list[Stopped] = field(default_factory=list)


class User:
    """One user of all tenants' jobs.

    Args:
        jobs: (tenant, job) to submit, first of all.
        pause_s: mean seconds between two whims afterwards; None: it has none.
        rogue: does not wait for `published` before touching outputs.
        mover: does little else than touching them.
        over: whether it has no more whims.
    """

    def __init__(
        self, process: Process, store: JobStore, places: Places, watch: Watch, outputs: Bucket, wishes: Wishes,
        jobs: list[tuple[str, RenderJob]], pause_s: float | None, rogue: bool, mover: bool, over: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.process, self.store, self.places = process, store, places
        self._watch, self._outputs, self._wishes = watch, outputs, wishes
        self._jobs, self._pause_s, self._rogue, self._mover = jobs, pause_s, rogue, mover
        self._over = over

    def live(self) -> None:
        clock = self.process.clock
        for tenant, job in self._jobs:
            clock.sleep(clock.chance.expovariate(1 / 8.0))
            self._submit(tenant, job)
        while self._pause_s is not None and not self._over():
            clock.sleep(clock.chance.expovariate(1 / self._pause_s))
            if self._over():
                return
            if known := sorted(self._wishes.submitted):
                out = [name for name in known if self._watch.followed(name).output in self._outputs.objects]
                at_outputs = clock.chance.random() < (0.95 if self._mover else 0.5)
                if out or not at_outputs:
                    self._whim(clock.chance, clock.chance.choice(out if at_outputs else known))

    def _submit(self, tenant: str, job: RenderJob) -> None:
        def do() -> None:
            policy = read_policy(self.store.storage, tenant)
            submitted = submit_job(self.store, self.places, tenant, policy, job)
            self._wishes.submitted[str(submitted.ref)] = job

        self._try(do)

    def _whim(self, chance: random.Random, name: str) -> None:
        tenant, _, id = name.partition("/")
        ref, state = JobRef(tenant, id), self._watch.followed(name).state["state"]
        if state in ("queued", "running"):
            whim = chance.choices(("cancel", "suspend", "priority"), (1, 2, 1))[0]
            if whim == "priority":
                self._try(lambda: reprioritise(self.store, ref, chance.randint(-5, 5)))
            else:
                self._stop(ref, "cancel" if whim == "cancel" else "suspend")
        elif state == "suspended":
            self._try(lambda: resume(self.store, ref))
        elif state in RETRIABLE:
            self._try(lambda: retry(self.store, ref))
        if state == "published" or (self._rogue and chance.random() < 0.2):
            self._touch(chance, name)

    def _stop(self, ref: JobRef, how: str) -> None:
        def do() -> None:
            asked = self._watch.order
            stop(self.store, ref, "cancel" if how == "cancel" else "suspend")
            self._wishes.stopped.append(Stopped(str(ref), asked, self._watch.order))

        self._try(do)

    def _touch(self, chance: random.Random, name: str) -> None:
        key = self._watch.followed(name).output
        if key in self._outputs.objects and chance.random() < 0.9:
            if chance.random() < 0.8:
                self._outputs.remove(key)
            else:
                self._outputs.write(key, b"another film of the user's")

    def _try(self, do: Callable[[], object]) -> None:
        for _ in range(PATIENCE):
            try:
                do()
                return
            except Unavailable:
                self.process.clock.sleep(self.process.clock.chance.uniform(0.5, 10.0))
            except IfmdmError:
                return  # refused, for a reason; the person reads it


class Operator:
    """Cleans up, mends and sweeps, now and then.

    Args:
        keep_s: age at which ended jobs are reduced to a record; None: never.
        mends: whether it runs fsck.
        stall_s: see `sweeper.STALL_S`.
    """

    def __init__(
        self,
        process: Process,
        store: JobStore,
        places: Places,
        keep_s: float | None,
        mends: bool,
        stall_s: float,
    ) -> None:
        self.process, self.store, self.places = process, store, places
        self._keep_s, self._mends = keep_s, mends
        self._sweeper = Sweeper(store, places, stall_s)

    def live(self) -> None:
        clock = self.process.clock
        while True:
            clock.sleep(clock.chance.uniform(10.0, 90.0))
            try:
                if self._keep_s is not None and clock.chance.random() < 0.7:
                    everything = clock.chance.random() < 0.7
                    collect(
                        self.store, keep_days=self._keep_s / 86_400.0, dry_run=False, everything=everything
                    )
                if self._mends:
                    repair(self.store, self.places)
                if clock.chance.random() < 0.5:
                    self._sweeper.sweep()  # beside the workers', who take turns
            except IfmdmError:
                continue  # it says why; another try in a while
