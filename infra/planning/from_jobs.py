"""Rates from jobs that have been rendered: what their logs and the metrics of their attempts say."""

from __future__ import annotations

import itertools
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from ifmdm_core.errors import BadInput, IfmdmError
from infra.planning.fitting import fit
from infra.planning.known_rates import DEMO_CPU
from infra.planning.rates import FPS, OWN_SIZE, Cost, Rates, now
from jobs.listing import Job, Which, find
from jobs.rendering.metrics import METRICS, AttemptMetrics
from jobs.store import JobStore

LATEST = 2000
"""Jobs that are looked at, those that ended last."""
LEAST = 5
"""Without so many there are no rates."""
CLAIM_S = 0.06
"""From a free slot to the next job's begin where none followed another: half of jobs.worker.FULL_S, and a claim."""
IDLE_S = 2.0
"""A slot that stayed free for longer had nothing to do."""


@dataclass(frozen=True)
class Sample:
    """One published job."""

    worker: str
    queued_at: float
    claimed_at: float
    done_at: float
    published_at: float
    """Seconds since 1970, by the worker."""
    steps: int
    size: int
    """Pixels a side; OWN_SIZE for the model's."""
    metrics: AttemptMetrics

    @property
    def video_s(self) -> float:
        return self.metrics.frames / self.metrics.fps

    @property
    def frames(self) -> float:
        """At the planned frame rate."""
        return self.video_s * FPS


def read_samples(store: JobStore, most: int = LATEST) -> list[Sample]:
    """The latest published jobs whose first attempt made all of it, in the order of their begin. Raises Unavailable."""
    jobs = find(store, Which(states=frozenset(("published",))))
    found = (sample for job in itertools.islice(jobs, most) if (sample := _sample(store, job)) is not None)
    return sorted(found, key=lambda sample: sample.claimed_at)


def rates_of(
    samples: Sequence[Sample], source: str, device: str = "cpu", cores: float | None = None
) -> Rates:
    """Rates from samples.

    Args:
        device: what the stages ran on; jobs do not say it.
        cores: see `Rates.cores`; default: all of this machine's.

    Raises BadInput where there are too few.
    """
    if len(samples) < LEAST:
        raise BadInput(
            f"{source}: {len(samples)} published jobs with metrics are too few",
            fix=f"render at least {LEAST}",
        )
    first = {sample.worker: sample for sample in reversed(samples)}
    warm = [
        sample for sample in samples if first[sample.worker] is not sample and _model_s(sample) < 1.0
    ] or samples
    motion, decoder = defaultdict(list), defaultdict(list)
    for sample in warm:
        stages = sample.metrics.stages
        motion[sample.steps].append((sample.frames, stages["motion"].busy_s))
        decoder[sample.size].append((sample.frames, stages["decoder"].busy_s))
    inputs = fit([(sample.video_s, _inputs_s(sample)) for sample in warm], "video second")
    gaps = list(_gaps(samples))
    return Rates(
        source=source,
        machine=f"{platform.machine()}, {platform.system()}, read by Python {platform.python_version()}",
        device=device,
        measured_at=now(),
        cores=cores or float(os.cpu_count() or 1),
        slots=_slots(samples),
        speech=fit([(s.video_s, s.metrics.stages["speech"].busy_s) for s in warm], "video second"),
        motion={steps: fit(found, "frame") for steps, found in sorted(motion.items())},
        decoder={size: fit(found, "frame") for size, found in sorted(decoder.items())},
        encoding=DEMO_CPU.encoding,  # metrics do not tell painting and encoding apart
        claim=fit([(0, gap) for gap in gaps]) if gaps else Cost(per_job=CLAIM_S, samples=1),
        inputs=inputs,
        finish=fit([(sample.video_s, _finish_s(sample)) for sample in warm], "video second"),
        publish=fit([(0, max(0.0, sample.published_at - sample.done_at)) for sample in warm]),
        start=fit([(0, _start_s(sample, inputs)) for sample in first.values()]),
    )


def _sample(store: JobStore, job: Job) -> Sample | None:
    """None for a job that was tried several times, or whose attempt has left no metrics."""
    if job.view.state.epoch != 1 or job.view.final:
        return None
    try:
        at = {entry.kind: entry.at for entry in store.log(job.ref)}
        metrics = AttemptMetrics.model_validate_json(store.storage.get(f"{job.ref.attempt(1)}/{METRICS}"))
        times = at["claimed"], at["done"], at["published"]
    except (IfmdmError, ValidationError, KeyError):
        return None
    if metrics.outcome != "rendered" or metrics.resumed_motion or not metrics.frames:
        return None
    controls = job.record.job.controls
    state = job.view.state
    return Sample(
        state.worker or "", state.queued_at, *times, controls.steps, controls.size or OWN_SIZE, metrics
    )  # fmt: skip


def _model_s(sample: Sample) -> float:
    return sample.metrics.phases.get("model", 0.0)


def _inputs_s(sample: Sample) -> float:
    return sum(sample.metrics.phases.get(phase, 0.0) for phase in ("download", "open"))


def _finish_s(sample: Sample) -> float:
    """Everything of an attempt but its inputs, its model and its frames."""
    named = sum(sample.metrics.phases.get(phase, 0.0) for phase in ("download", "model", "open", "frames"))
    return max(0.0, sample.done_at - sample.claimed_at - named)


def _start_s(sample: Sample, inputs: Cost) -> float:
    """What a worker's first job waited for: the model, and whatever else is there from then on."""
    return max(0.0, _model_s(sample) + _inputs_s(sample) - inputs.seconds(sample.video_s))


def _slots(samples: Iterable[Sample]) -> int:
    """Most jobs that were under way at once."""
    steps = sorted([(s.claimed_at, 1) for s in samples] + [(s.published_at, -1) for s in samples])
    return max(1, max(itertools.accumulate(step for _, step in steps)))


def _gaps(samples: Sequence[Sample]) -> Iterator[float]:
    """For how long slots were free while jobs waited, worker by worker."""
    by_worker = defaultdict(list)
    for sample in samples:
        by_worker[sample.worker].append(sample)
    for theirs in by_worker.values():
        slots, ends = _slots(theirs), sorted(sample.published_at for sample in theirs)
        for sample, freed_at in zip(theirs[slots:], ends, strict=False):
            gap = sample.claimed_at - freed_at
            if sample.queued_at < freed_at and 0 <= gap < IDLE_S:
                yield gap
