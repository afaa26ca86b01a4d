"""Render jobs by real processes that are stopped and killed, on an S3 in trouble: the chaos in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.job_processes import SHORT, run, told
from tests.crash.job_room import Room
from tests.crash.reporting import seeds_of_this_commit


def test_jobs_end_right_whatever_happens_to_their_workers_and_their_store(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], s3_endpoint: str
) -> None:
    seed = seeds_of_this_commit(1).start
    with capsys.disabled(), Room(tmp_path, tiny_bundle, seed) as room:
        print(f"\nIFMDM_CRASH_SEED={seed}")
        run(room, SHORT)
        print(told(room))
