"""Three kills, one for each kind of victim, at moments that the commit decides; `make chaos` runs twenty."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.crash.schedules import run_all


def seeds_of_this_commit() -> range:
    """Three consecutive seeds: a worker, a driver and a node. IFMDM_CRASH_SEED repeats a run."""
    given = os.environ.get("IFMDM_CRASH_SEED")
    if given is None:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
        )
        given = str(int(head.stdout.strip()[:6] or "0", 16)) if head.returncode == 0 else "0"
    return range(int(given), int(given) + 3)


def test_a_run_cut_short_by_kill_9_ends_with_the_bytes_of_an_undisturbed_one(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = seeds_of_this_commit()
    reports = []
    for report in run_all(seeds, tiny_bundle):
        reports.append(report)
        with capsys.disabled():
            print(f"\nIFMDM_CRASH_SEED={seeds.start}: {report}")
    assert {report["victim"] for report in reports} == {"worker", "driver", "node"}
