"""A manifest from the first command to the last video: real processes, the bundled model, S3 over HTTP."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from ifmdm_core.storage import S3Config, open_storage
from tests.jobs.whole.commands import WorkProcess, ifmdm
from tests.jobs.whole.manifests import check_results, put_inputs, write_manifest


def test_of_200_rows_the_10_bad_ones_fail_with_field_and_reason_and_all_others_are_published(
    s3_config: S3Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = f"s3://renders/{uuid.uuid4().hex}"
    endpoint = ("--endpoint", str(s3_config.endpoint))
    store, root = ("--root", f"{base}/jobs", *endpoint), f"{base}/jobs"
    manifest, results = tmp_path / "jobs.csv", tmp_path / "results.jsonl"
    expected = write_manifest(manifest, 200, put_inputs(open_storage(base, s3_config)), f"{base}/videos")

    ifmdm("jobs", "init", root, *endpoint)
    ifmdm("jobs", "submit", "--manifest", str(manifest), *store, codes=(2,))
    with WorkProcess(
        root, tmp_path / "work.log", "--local", "--slots", "3", "--until-done", *endpoint
    ) as work:
        assert work.wait(500) == 0, work.last_words()
    ifmdm("jobs", "results", "--manifest", str(manifest), "-o", str(results), *store)

    seen = check_results(results, expected, open_storage(f"{base}/videos", s3_config))
    assert (seen["published"], seen["failed"] + seen["rejected"]) == (190, 10)
    ifmdm("jobs", "fsck", *store)
    with capsys.disabled():
        print(f"\n{seen}")
