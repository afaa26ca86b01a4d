"""A worker, a driver and MLflow are killed under a real training, at steps that the commit decides."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.crash.training_schedules import VICTIMS, run_all


def seeds_of_this_commit() -> range:
    """Three consecutive seeds, one for each kind of victim. IFMDM_CRASH_SEED repeats a run."""
    given = os.environ.get("IFMDM_CRASH_SEED")
    if given is None:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
        )
        given = str(int(head.stdout.strip()[:6] or "0", 16)) if head.returncode == 0 else "0"
    return range(int(given), int(given) + len(VICTIMS))


def test_a_training_under_kill_9_ends_with_the_weights_and_the_curve_of_an_undisturbed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = seeds_of_this_commit()
    reports = []
    for report in run_all(seeds, "demo", longest_s=5.0):
        reports.append(report)
        with capsys.disabled():
            print(f"\nIFMDM_CRASH_SEED={seeds.start}: {report}")
    assert {report["victim"] for report in reports} == set(VICTIMS)
