"""Parts of a simulated day: nothing is lost, the seed decides, scheduler and policy are those of the real system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infra.planning.picture import draw
from infra.planning.simulation.day import simulate
from infra.planning.simulation.scenario import Scenario, Spot, StagePlan, WorkerPlan
from infra.planning.workload import TenantHabits
from jobs.scheduler import Scheduler
from serve.config import Scaling
from serve.scaling import LoadAndBacklog
from tests.infra.planning.conftest import round_rates


def stage(least: int, most: int) -> StagePlan:
    return StagePlan(
        scaling=Scaling(least=least, most=most, target=3, upscale_delay_s=5, downscale_delay_s=60, backlog=20)
    )


SMALL = Scenario(
    seed=3, hours=0.5, renders_per_day=24_000, speech_s=4, chunk=50, window=100,
    tenants=(
        TenantHabits(name="app", share=0.5), TenantHabits(name="campaigns", share=0.5, bursts=96, burst_s=30),
        TenantHabits(name="small", share=0.02),
    ),
    workers=WorkerPlan(count=2, slots=8), speech=stage(1, 2), motion=stage(1, 3), decoder=stage(1, 8),
    node_start_s=60, replica_start_s=10, node_idle_s=30, spot=Spot(mean_life_h=None),
)  # fmt: skip


def changed(**changes: Any) -> Scenario:
    return SMALL.model_copy(update=changes)


def test_all_jobs_are_published_and_the_seed_decides() -> None:
    found = simulate(SMALL, round_rates())
    assert found["published"] == found["submitted"] > 400
    assert found["drained"]
    assert found["stages"]["decoder"]["replicas_most"] > 1
    assert sum(tenant["jobs"] for tenant in found["tenants"].values()) == found["published"]
    assert simulate(SMALL, round_rates()) == found
    other = simulate(changed(seed=4), round_rates())
    assert other["series"] != found["series"]


@pytest.mark.parametrize("with_grace", [0.0, 1.0])
def test_losses_of_nodes_cost_time_and_no_job(with_grace: float) -> None:
    spot = Spot(mean_life_h=0.1, with_grace=with_grace, grace_s=20)
    found = simulate(changed(spot=spot), round_rates())
    assert found["published"] == found["submitted"]
    kind = "announced" if with_grace else "sudden"
    assert found["workers_lost"][kind] > 2
    assert found["stages"]["decoder"]["nodes_lost"][kind] > 2
    assert found["claimed_again"] > 0
    calls = sum(stage["calls_lost"] for stage in found["stages"].values())
    assert (calls > 0) == (with_grace == 0.0)  # announced ones answer what they are at
    calm = simulate(SMALL, round_rates())
    assert found["submit_to_published_s"]["p95"] > calm["submit_to_published_s"]["p95"]


def test_twice_the_speed_needs_fewer_replicas_and_less_money() -> None:
    slow, rates = simulate(SMALL, round_rates()), round_rates()
    fast = simulate(
        SMALL, round_rates(decoder={0: rates.decoder[0].faster(4)}, motion={8: rates.motion[8].faster(4)})
    )
    assert fast["stages"]["decoder"]["replicas_mean"] < slow["stages"]["decoder"]["replicas_mean"]
    assert fast["dollars_total"] < slow["dollars_total"]
    assert fast["submit_to_published_s"]["p95"] < slow["submit_to_published_s"]["p95"]


def short_of_slots(seed: int = 3) -> Scenario:
    """A large tenant's burst fills the only worker's slots for minutes."""
    tenants = (
        TenantHabits(name="large", share=0.97, bursts=48, burst_s=10),
        TenantHabits(name="small", share=0.03),
    )
    return changed(
        seed=seed,
        tenants=tenants,
        workers=WorkerPlan(count=1, slots=4),
        decoder=stage(3, 3),
        motion=stage(2, 2),
    )


def test_shares_are_fair_and_no_longer_when_the_scheduler_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    fair = simulate(short_of_slots(), round_rates())["tenants"]
    assert fair["large"]["wait_s"]["p95"] > 60
    assert fair["small"]["wait_s"]["p95"] < 15

    def largest_first(self: Scheduler) -> list[str]:
        return sorted(self._waiting)

    monkeypatch.setattr(Scheduler, "_order", largest_first)
    unfair = simulate(short_of_slots(), round_rates())["tenants"]
    assert unfair["small"]["wait_s"]["p95"] > 5 * fair["small"]["wait_s"]["p95"]


@pytest.mark.parametrize(("wanted", "most"), [(1, 1), (6, 6)])
def test_replicas_are_what_the_services_policy_says(
    wanted: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def constant(self: LoadAndBacklog, context: Any) -> tuple[float, dict[str, Any]]:
        calls.append(context.deployment_name)
        return wanted, {}

    monkeypatch.setattr(LoadAndBacklog, "__call__", constant)
    found = simulate(changed(hours=0.1), round_rates())
    assert found["stages"]["decoder"]["replicas_most"] == most
    assert set(calls) == {"speech", "motion", "decoder"}
    assert len(calls) >= 3 * 300  # about once a second each


def test_a_cut_has_that_part_of_jobs_and_machines() -> None:
    cut = changed(cut=0.25, workers=WorkerPlan(count=12), decoder=stage(4, 40)).smaller()
    assert cut.renders_per_day == 6000
    assert cut.workers.count == 3
    assert (cut.decoder.scaling.least, cut.decoder.scaling.most) == (2, 10)
    assert (cut.speech.scaling.least, cut.speech.scaling.most) == (1, 2)
    assert cut.decoder.scaling.backlog == 20
    assert cut.smaller() == cut


def test_a_picture_is_drawn(tmp_path: Any) -> None:
    scenario = changed(hours=0.05, spot=Spot(mean_life_h=0.1))
    found = {"scenario": scenario.model_dump(), **simulate(scenario, round_rates())}
    draw(found, tmp_path / "day.png")
    assert (tmp_path / "day.png").read_bytes()[:4] == b"\x89PNG"


def test_who_watches_is_told_how_far_it_is() -> None:
    told: list[float] = []
    say: Callable[[float], None] = told.append
    simulate(changed(hours=0.05), round_rates(), say)
    assert told == sorted(told)
    assert len(told) >= 288
