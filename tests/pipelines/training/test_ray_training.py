"""Trainings through Ray Train, on real workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.training.loop import Diverged
from pipelines.run.cluster import connect
from pipelines.tracking.spool import Spool
from pipelines.training.driver import Launch
from pipelines.training.launch import resume, train
from pipelines.training.listing import runs
from pipelines.training.run import RunFolder


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for the module: starting it takes longer than the trainings."""
    with connect(cpus=2):
        yield


def losses(run: str) -> dict[int, float]:
    entries = Spool(RunFolder.at(run).storage).entries()
    return {entry.step: entry.values["loss"] for entry in entries if entry.kind == "step"}


def test_two_workers_learn_what_one_learns_and_go_on_as_one(motion_config: dict[str, Any]) -> None:
    alone = train("motion", motion_config, name="alone", launch=Launch(local=True), quiet=True)
    both = train("motion", motion_config, overrides=["workers.count=2"], name="both", quiet=True)
    assert both.record.step == alone.record.step == 12
    assert both.record.metrics["heldout_loss"] == pytest.approx(
        alone.record.metrics["heldout_loss"], rel=1e-3
    )
    assert list(losses(both.run)) == list(losses(alone.run)) == list(range(1, 13))
    for step, loss in losses(alone.run).items():
        assert losses(both.run)[step] == pytest.approx(loss, rel=1e-4), f"step {step}"
    # A result is there already; without it the last checkpoint is exported again, by another number of workers.
    run = RunFolder.at(both.run)
    run.storage.delete("result/result.json")
    again = resume(both.run, workers=1, quiet=True)
    assert again.record.sha256 == both.record.sha256
    assert [state.attempts for state in runs(motion_config["runs"])] == [1, 2]


def test_an_error_in_a_worker_comes_back_as_it_is_and_is_not_tried_again(
    motion_config: dict[str, Any],
) -> None:
    wild = ["workers.count=2", "optimiser.lr=1e30", "optimiser.clip_norm=1e30", "optimiser.warmup=0"]
    with pytest.raises(Diverged, match=r"at step \d+, on clips"):
        train("motion", motion_config, overrides=wild, name="wild", quiet=True)
    (state,) = runs(motion_config["runs"])
    assert state.state == "failed"


def test_more_workers_than_there_is_room_for_are_refused(motion_config: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="this machine has 2 CPUs of 3 that takes"):
        train("motion", motion_config, overrides=["workers.count=3"], quiet=True)
