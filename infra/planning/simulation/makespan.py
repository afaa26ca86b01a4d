"""How long a number of jobs takes, all of them waiting at the start, on machines that stay as they are."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import simpy

from ifmdm_core.errors import BadInput
from infra.planning.rates import Rates
from infra.planning.simulation.book import Book
from infra.planning.simulation.recorder import Recorder
from infra.planning.simulation.renders import Grain, work_of
from infra.planning.simulation.stages import Stage
from infra.planning.simulation.workers import Ears, SimWorker
from infra.planning.workload import PlannedJob
from jobs.names import JobRef
from jobs.tenants import TenantPolicy

STAGES = ("speech", "motion", "decoder")


@dataclass(frozen=True)
class Makespan:
    """What the simulation says."""

    seconds: float
    """From the workers' first look to the last published output."""
    jobs: int
    busy: dict[str, float]
    """Part of the time that a stage's replicas worked."""
    wait_s: dict[str, float]
    """In the queue."""

    def as_dict(self) -> dict[str, object]:
        return {
            "seconds": round(self.seconds, 3), "jobs": self.jobs, "wait_s": self.wait_s,
            "busy": {stage: round(part, 4) for stage, part in self.busy.items()},
        }  # fmt: skip


def makespan(
    jobs: Sequence[PlannedJob], rates: Rates, *, workers: int = 1, slots: int = 2,
    replicas: Mapping[str, int] | None = None, start: bool = True, seed: int = 0,
) -> Makespan:  # fmt: skip
    """Simulates them.

    Args:
        replicas: of each stage; those not named have one.
        start: workers load the model first, as `ifmdm jobs work --local` does.

    Raises BadInput for no jobs, or a size that was not measured.
    """
    if not jobs:
        raise BadInput("there are no jobs", fix="give a manifest with rows")
    grain = Grain.real(rates)
    work = {job: work_of(job, rates, grain) for job in jobs}
    env, chance, recorder = simpy.Environment(), random.Random(seed), Recorder()
    book = Book(env, chance, {job.tenant: TenantPolicy() for job in jobs})
    stages = {name: Stage(env, name) for name in STAGES}
    counts = {**dict.fromkeys(STAGES, 1), **(replicas or {})}
    for name, stage in stages.items():
        for _ in range(counts[name]):
            stage.add()
    over = env.event()

    def published(ref: JobRef) -> None:
        recorder.publish(ref, float(env.now))
        if recorder.published == len(jobs):
            over.succeed()

    for job in jobs:
        recorder.submit(book.enter(job), 0.0)
    ears = Ears(lambda ref, epoch: recorder.claim(ref, epoch, float(env.now)), published, lambda: None)
    for number in range(workers):
        SimWorker(
            env, book, stages, work.__getitem__, ears, f"worker.{number}", slots, rates.claim.seconds(),
            rates.start.seconds() if start else 0.0,
        )  # fmt: skip
    env.run(until=over)
    seconds = float(env.now)
    return Makespan(
        seconds=seconds,
        jobs=len(jobs),
        busy={name: stage.busy_s / (seconds * counts[name]) for name, stage in stages.items()},
        wait_s=recorder.summary()["wait_s"],
    )
