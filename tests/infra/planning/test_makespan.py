"""How long jobs take, by the real scheduler in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from infra.planning.rates import Rates
from infra.planning.simulation import renders
from infra.planning.simulation.makespan import makespan
from infra.planning.simulation.renders import Grain, work_of
from infra.planning.workload import PlannedJob
from jobs.scheduler import Scheduler
from tests.infra.planning.conftest import round_rates


def jobs(count: int, speech_s: float = 2.0, tenant: str = "default") -> list[PlannedJob]:
    return [PlannedJob(tenant, speech_s)] * count


def test_one_job_takes_its_service_time_by_hand(rates: Rates) -> None:
    # 1.6 s are one window of 40 frames: 0.16 s of speech, 0.32 s of motion; then five chunks of 8 x 20 ms
    by_hand = 4.0 + 0.3 + 0.16 + 0.32 + 0.8 + 0.2 + 0.1
    assert makespan(jobs(1, 1.6), rates).seconds == pytest.approx(by_hand)
    assert makespan(jobs(1, 1.6), rates, start=False).seconds == pytest.approx(by_hand - 4.0)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.2, 60), st.floats(0, 0.9), st.sampled_from(["cpu", "NVIDIA L4"]), st.floats(0.1, 20))
def test_one_job_takes_its_service_time(speech_s: float, encoding: float, device: str, motion: float) -> None:
    slow = round_rates()
    rates = round_rates(encoding=encoding, device=device, motion={8: slow.motion[8].faster(1 / motion)})
    alone = work_of(PlannedJob("a", speech_s), rates, Grain.real(rates)).alone
    assert makespan(jobs(1, speech_s), rates, start=False).seconds == pytest.approx(alone)


def test_a_slot_takes_jobs_one_after_the_other_and_several_overlap(rates: Rates) -> None:
    one = makespan(jobs(1), rates, start=False).seconds
    ten = makespan(jobs(10), rates, slots=1, start=False).seconds
    assert ten == pytest.approx(10 * one + 9 * 0.05)
    overlapped = makespan(jobs(10), rates, slots=4, start=False)
    # The painter is the bottleneck: 10 x 50 frames x 20 ms, and what comes before the first and after the last.
    assert 10.0 <= overlapped.seconds <= 10.0 + 2 * one
    assert overlapped.busy["decoder"] == pytest.approx(10.0 / overlapped.seconds)


def test_more_of_the_bottleneck_helps_and_more_of_another_does_not(rates: Rates) -> None:
    some = makespan(jobs(40), rates, slots=16, start=False).seconds
    assert makespan(jobs(40), rates, slots=16, replicas={"decoder": 3}, start=False).seconds < 0.5 * some
    assert makespan(jobs(40), rates, slots=16, replicas={"speech": 3}, start=False).seconds == pytest.approx(
        some, rel=0.02
    )


def test_every_worker_loads_its_model_once(rates: Rates) -> None:
    without = makespan(jobs(12), rates, workers=3, slots=2, start=False).seconds
    assert makespan(jobs(12), rates, workers=3, slots=2).seconds == pytest.approx(without + 4.0, abs=0.5)


def test_the_same_seed_gives_the_same_time(rates: Rates) -> None:
    mixed = [PlannedJob(f"t{n % 3}", 1.0 + 0.1 * (n % 7)) for n in range(30)]
    first = makespan(mixed, rates, workers=2, slots=3, seed=5)
    assert makespan(mixed, rates, workers=2, slots=3, seed=5) == first
    assert makespan(mixed, rates, workers=2, slots=3, seed=6) != first


def test_jobs_are_claimed_by_the_real_scheduler(rates: Rates, monkeypatch: pytest.MonkeyPatch) -> None:
    claims: list[str] = []
    claim = Scheduler.next

    def watched(self: Scheduler, *args: object, **options: object) -> object:
        found = claim(self, *args, **options)  # type: ignore[arg-type]
        if found is not None:
            claims.append(found.ref.tenant)
        return found

    monkeypatch.setattr(Scheduler, "next", watched)
    makespan([*jobs(20, tenant="large"), *jobs(5, tenant="small")], rates, slots=2)
    assert len(claims) == 25
    assert claims[:10].count("small") >= 4  # shares are equal: every other job is one of the small tenant's


def test_what_cannot_be_foretold_is_refused(rates: Rates) -> None:
    with pytest.raises(BadInput, match="there are no jobs"):
        makespan([], rates)
    with pytest.raises(BadInput, match="no rate for size 512"):
        makespan([PlannedJob("a", 1.0, size=512)], rates)


def test_the_simulated_flow_has_the_real_ones_depth() -> None:
    from serve import flow

    assert renders.DECODING == flow.DECODING
