"""Shares of the machines: real workers in simulated time."""

from __future__ import annotations

import pytest

from jobs.names import JobRef
from jobs.tenants import TenantPolicy
from tests.crash.jobs.faults import Odds
from tests.crash.jobs.renderer import Script
from tests.crash.jobs.world import Plan, World
from tests.jobs.queues import enter, record


@pytest.mark.parametrize("slots", [4, 20])
def test_ten_thousand_jobs_of_one_tenant_delay_ten_of_another_by_one_for_each_slot(slots: int) -> None:
    """Real workers, in simulated time: two with half of the slots each."""
    job_s, plan = 30.0, Plan(
        seed=7, kind="calm", odds=Odds(), workers=(slots // 2, slots // 2), users=1, jobs=(),
        policies={tenant: TenantPolicy(outputs=(f"s3://films/{tenant}/",), inputs=("s3://media/",)) for tenant in "ab"},
        chaos_s=1e9, stall_s=600.0, whim_s=None,
    )  # fmt: skip
    world = World(plan)
    store, renderer = world.buckets["store"], world.renderer
    began = world.hub.now

    def submit(tenant: str, count: int) -> list[JobRef]:
        records = [record(tenant, number, world.hub.now - 1000.0 + 0.01 * number) for number in range(count)]
        renderer.scripts.update({given.id: Script(3, job_s / 3) for given in records})
        return [enter(store, given) for given in records]

    submit("a", 10_000)
    world.start()
    world.hub.run(lambda: world.hub.now > began + 100.0)
    arrived, small = world.hub.now, submit("b", 10)

    def started() -> int:
        return sum(world.watch.followed(str(ref)).state["epoch"] > 0 for ref in small)

    world.hub.run(lambda: started() == 10 or world.hub.now > arrived + 100 * job_s)
    last = world.hub.now
    world.hub.end()
    assert not world.watch.wrong
    assert started() == 10
    theirs = [entry for job in world.watch.jobs.values() if job.name[0] == "a" for entry in job.log]
    others = sum(entry["kind"] == "claimed" and entry["at"] > arrived for entry in theirs)
    # Every slot was busy with one of the other tenant's; after that one the ten have the half that is theirs.
    assert others <= 10
    rounds = 1 + max(0.0, 10 / (slots / 2) - 1)
    assert last - arrived <= 1.5 * job_s * rounds + 15.0
