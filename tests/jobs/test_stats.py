"""Counts, times, workers and cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput
from jobs.cost import cost
from jobs.listing import Which, find
from jobs.rendering.contract import Task
from jobs.stats import HOUR_S, Times, stats
from tests.jobs.command_line import Commands
from tests.jobs.small_store import SmallStore
from tests.jobs.test_fsck import everything


@pytest.fixture(params=["folder", "s3"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallStore:
    if request.param == "folder":
        return SmallStore(tmp_path / "store")
    return SmallStore(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))


@pytest.fixture
def disk(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


def test_jobs_are_counted_by_tenant_and_state(small: SmallStore) -> None:
    small.let_in("other")
    everything(small)
    small.submit("b", tenant="other")
    found = stats(small.store)
    assert found.states == {
        "default": {
            "cancelled": 1, "failed": 1, "later": 1, "published": 1, "queued": 1, "running": 2, "suspended": 1,
        },
        "other": {"queued": 1},
    }  # fmt: skip
    assert found.ended_last_hour == {"cancelled": 1, "failed": 1, "published": 1}
    assert stats(small.store, ["other"]).states == {"other": {"queued": 1}}
    small.grow_older(2 * HOUR_S, "ended/")
    assert stats(small.store).ended_last_hour == {}
    assert "published" not in stats(small.store, days=1 / 24).states["default"]


def test_times_are_those_of_the_last_hour(disk: SmallStore) -> None:
    def slow(task: Task) -> None:
        disk.clock.passed += 1.5

    disk.renderer.between = slow
    disk.submit("a")
    disk.clock.passed += 10
    disk.work()
    found = stats(disk.store)
    assert found.run is not None
    assert found.wait is not None
    assert found.run.p50 == pytest.approx(6, abs=0.1)
    assert found.wait.p95 == pytest.approx(10, abs=0.1)


def test_percentiles() -> None:
    assert Times.of([]) is None
    assert Times.of([3.0]) == Times(3.0, 3.0)
    assert Times.of([float(n) for n in range(100)]) == Times(50.0, 95.0)


def test_workers_are_alive_while_they_say_so(disk: SmallStore) -> None:
    disk.worker("one").beat()
    disk.worker("two").beat()
    assert [worker["name"] for worker in stats(disk.store).workers] == ["one", "two"]
    assert stats(disk.store).slots == 2
    disk.grow_older(61, "workers/one.json")
    assert [worker["name"] for worker in stats(disk.store).workers] == ["two"]


def test_cost_is_added_up_by_what_one_asks_for(disk: SmallStore, capsys: pytest.CaptureFixture[str]) -> None:
    disk.let_in("other")
    disk.renderer.faults = lambda task: BadInput("no face") if task.tenant == "other" else None
    a = disk.submit("a", labels={"team": "red"})
    disk.submit("b", labels={"team": "blue"})
    disk.submit("c", tenant="other")
    disk.work()
    found = list(find(disk.store, Which()))
    by_tenant = cost(found)
    assert {name: group.jobs for name, group in by_tenant.items()} == {"default": 2, "other": 1}
    assert next(iter(by_tenant)) == "default"  # the dearest first
    assert by_tenant["default"].as_dict() == {
        "jobs": 2, "frames": 80, "video_s": 3.2, "busy_s": {"decoder": 5.0, "motion": 2.0, "speech": 1.0},
        "busy_total_s": 8.0,
    }  # fmt: skip
    assert by_tenant["other"].as_dict()["busy_total_s"] == 4.0  # what failed costs too
    assert set(cost(found, "label:team")) == {"red", "blue", ""}
    assert set(cost(found, "state")) == {"published", "failed"}
    assert a.id in cost(found, "job")
    with pytest.raises(BadInput, match="one of tenant, job"):
        cost(found, "colour")
    jobs = Commands(disk, capsys)
    (group,) = jobs.json("cost", "--by", "model", "--gpu-hour", "3.6")["groups"].values()
    assert group["price"] == pytest.approx(8 / 1000)
    assert group["price_per_video_s"] == pytest.approx(0.008 / 3.2)
    assert "decoder s" in jobs("cost", "--all-tenants", "--gpu-hour", "1").out
    assert jobs.json("stats")["states"]["default"] == {"published": 2}
    assert "last hour  3 ended" in jobs("stats").out
