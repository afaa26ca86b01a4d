"""Three kills, one for each kind of victim, at moments that the commit decides; `make chaos` runs twenty."""

from pathlib import Path

import pytest

from tests.crash.reporting import seeds_of_this_commit
from tests.crash.schedules import run_all


def test_a_run_cut_short_by_kill_9_ends_with_the_bytes_of_an_undisturbed_one(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = seeds_of_this_commit(3)
    reports = []
    for report in run_all(seeds, tiny_bundle):
        reports.append(report)
        with capsys.disabled():
            print(f"\nIFMDM_CRASH_SEED={seeds.start}: {report}")
    assert {report["victim"] for report in reports} == {"worker", "driver", "node"}
