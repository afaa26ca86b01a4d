"""A worker, a driver and MLflow are killed under a real training, at steps that the commit decides."""

from __future__ import annotations

import pytest

from tests.crash.reporting import seeds_of_this_commit
from tests.crash.training_schedules import VICTIMS, run_all


def test_a_training_under_kill_9_ends_with_the_weights_and_the_curve_of_an_undisturbed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = seeds_of_this_commit(len(VICTIMS))
    reports = []
    for report in run_all(seeds, "demo", down_s=5.0):
        reports.append(report)
        with capsys.disabled():
            print(f"\nIFMDM_CRASH_SEED={seeds.start}: {report}")
    assert {report["victim"] for report in reports} == set(VICTIMS)
