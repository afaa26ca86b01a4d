"""Render jobs under the faults of a few hundred seeds that the commit decides; `make chaos` runs two thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.jobs.schedules import KINDS, draw, execute, run_all
from tests.crash.reporting import seeds_of_this_commit


def test_jobs_end_as_they_must_whatever_happens_to_their_workers(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = seeds_of_this_commit(300)
    for report in run_all(seeds):
        with capsys.disabled():
            print(f"\nIFMDM_CRASH_SEED={seeds.start}: {report}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_the_same_schedule_everywhere(kind: str) -> None:
    seed = next(seed for seed in range(1000) if draw(seed).kind == kind)
    program = f"from tests.crash.jobs.schedules import draw, execute; print(execute(draw({seed})))"
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "."},
    )  # fmt: skip
    assert there.stdout.strip() == str(execute(draw(seed)))
