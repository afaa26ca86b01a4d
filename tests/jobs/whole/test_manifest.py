"""A manifest from the first command to the last video: real processes, the bundled model, S3 over HTTP."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from ifmdm_core.storage import S3Config
from tests.jobs.whole.manifests import run_manifest


def test_of_200_rows_the_10_bad_ones_fail_with_field_and_reason_and_all_others_are_published(
    s3_config: S3Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = run_manifest(200, f"s3://renders/{uuid.uuid4().hex}", s3_config, tmp_path)
    assert (seen["published"], seen["failed"] + seen["rejected"]) == (190, 10)
    with capsys.disabled():
        print(f"\n{seen}")
