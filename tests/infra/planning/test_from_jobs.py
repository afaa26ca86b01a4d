"""Rates from jobs that a worker has rendered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput
from infra.planning.from_jobs import Sample, rates_of, read_samples
from infra.planning.rates import OWN_SIZE
from jobs.rendering.contract import Rendered, Report, Task
from jobs.rendering.metrics import METRICS, AttemptMetrics, StageCost
from tests.jobs.small_store import SmallStore, StandIn


def metrics(frames: int, model_s: float = 0.0) -> AttemptMetrics:
    """Of an attempt in which everything took a round part of its length."""
    video_s = frames / 25
    phases = {
        "download": 0.1,
        "model": model_s,
        "open": 0.2,
        "frames": video_s,
        "mux": 0.05 * video_s,
        "sign": 0.1,
    }
    return AttemptMetrics(
        outcome="rendered", frames=frames, frames_decoded=frames, fps=25, seconds=sum(phases.values()), phases=phases,
        stages={
            "speech": StageCost(calls=1, busy_s=0.04 * video_s),
            "motion": StageCost(calls=1, busy_s=0.1 + 0.004 * frames),
            "decoder": StageCost(calls=4, busy_s=0.02 * frames),
        },
    )  # fmt: skip


def sample(worker: str, begin: float, frames: int, model_s: float = 0.0, steps: int = 8) -> Sample:
    """Claimed at `begin`, published 0.05 s after its verdict, which is 0.02 s after the attempt."""
    found = metrics(frames, model_s)
    done = begin + found.seconds + 0.02
    return Sample(worker, 0.0, begin, done, done + 0.05, steps, OWN_SIZE, found)


def one_after_the_other(frames: list[int], gap_s: float) -> list[Sample]:
    found, at = [], 100.0
    for number, count in enumerate(frames):
        found.append(sample("ann", at, count, model_s=6.0 if not number else 0.0))
        at = found[-1].published_at + gap_s
    return found


def test_costs_are_those_of_the_attempts_and_the_first_of_a_worker_tells_its_start() -> None:
    rates = rates_of(one_after_the_other([25, 50, 75, 50, 25, 100], gap_s=0.07), "six jobs", cores=4)
    assert rates.speech.per_unit == pytest.approx(0.04)
    assert (rates.motion[8].per_job, rates.motion[8].per_unit) == (pytest.approx(0.1), pytest.approx(0.004))
    assert rates.decoder_at(None).seconds(250) == pytest.approx(5.0)
    assert rates.inputs.seconds(3) == pytest.approx(0.3)
    assert rates.finish.seconds(2) == pytest.approx(0.02 + 0.1 + 0.1)
    assert rates.publish.per_job == pytest.approx(0.05)
    assert rates.start.per_job == pytest.approx(6.0)
    assert rates.claim.per_job == pytest.approx(0.07)
    assert (rates.slots, rates.cores, rates.decoder_at(None).samples) == (1, 4, 5)


def test_gaps_in_which_nothing_waited_are_nobodys_cost() -> None:
    assert rates_of(one_after_the_other([25] * 6, gap_s=30.0), "rests").claim.per_job < 1.0


def test_two_slots_are_seen_and_their_gaps_told_apart() -> None:
    both = [sample("ann", 100 + 5 * turn + 0.5 * slot, 25) for turn in range(4) for slot in range(2)]
    rates = rates_of(sorted(both, key=lambda s: s.claimed_at), "two slots")
    assert rates.slots == 2


def test_steps_are_told_apart() -> None:
    some = [sample("ann", 100.0 * n, 25 * (n + 1), steps=4 if n % 2 else 8) for n in range(8)]
    assert rates_of(some, "steps").motion.keys() == {4, 8}


def test_too_few_jobs_are_no_measurement() -> None:
    with pytest.raises(BadInput, match="4 published jobs with metrics are too few; render at least 5"):
        rates_of(one_after_the_other([25] * 4, 0.1), "four jobs")


class Measured(StandIn):
    """Leaves metrics, as the real renderer does."""

    @contextlib.contextmanager
    def render(self, task: Task, report: Report) -> Iterator[Rendered]:
        with super().render(task, report) as rendered:
            task.storage.put(f"{task.folder}/{METRICS}", metrics(40).model_dump_json().encode())
            yield rendered


def test_samples_come_from_the_store_of_jobs_that_one_attempt_made(tmp_path: Path) -> None:
    small = SmallStore(tmp_path / "store")
    small.renderer = Measured()
    for number in range(3):
        small.submit(f"good {number}")
    small.submit("other", controls={"steps": 4, "size": 256})
    small.work()
    failing = iter([RuntimeError("once")])
    small.renderer.faults = lambda task: next(failing, None)
    small.submit("twice")
    small.work()
    small.renderer = StandIn()
    small.submit("without metrics")
    small.work()
    samples = read_samples(small.store)
    assert [(s.frames, s.worker) for s in samples] == [(40.0, "worker.1")] * 4
    assert sorted((s.steps, s.size) for s in samples) == [(4, 256), *[(8, OWN_SIZE)] * 3]
    assert all(s.claimed_at <= s.done_at <= s.published_at for s in samples)
