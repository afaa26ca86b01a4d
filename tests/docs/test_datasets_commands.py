"""The commands of docs/datasets.md run as they stand; its Python is run by tests/pipelines/test_datasets_guide.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ifmdm_core.storage import S3Config, open_storage
from tests.docs.documents import read
from tests.docs.typed import run_ifmdm, run_shell

GUIDE = read("docs/datasets.md")


def motion_sets(dataset: str) -> list[str]:
    """Digests of its motion sets, the oldest first."""
    code, said = run_ifmdm("data", "ls", dataset, "--json")
    assert code == 0, said
    sets = [one for one in json.loads(said)["features"] if one["kind"] == "motion"]
    return [one["digest"] for one in sorted(sets, key=lambda one: one["created"])]


def test_from_videos_to_a_dataset(dataset: Path) -> None:
    """README's second path has cut and encoded the same videos, so the first two commands find all of it done."""
    run_shell(GUIDE.block("ifmdm data clips videos/"), {"videos/ set": "videos.csv set"})
    assert (dataset.parent / "report.html").stat().st_size > 1_000
    assert (dataset.parent / "sheet.jpg").stat().st_size > 1_000
    assert list(dataset.glob("selection/good-*.json"))


def test_extraction_again_by_another_encoder(dataset: Path, bucket: S3Config, tiny_bundle: Path) -> None:
    shutil.copytree(tiny_bundle, dataset.parent / "new-bundle")
    there = open_storage("s3://bucket/set", bucket)
    for file in filter(Path.is_file, dataset.rglob("*")):
        there.put(file.relative_to(dataset).as_posix(), file.read_bytes())
    block = GUIDE.block("--motion new-bundle/ --dry-run")
    first, rest = block.text.split("ifmdm data diff")
    planned, _, verified = run_shell(replace(block, text=first))
    assert json.loads(planned)
    assert verified
    old, new = motion_sets("s3://bucket/set")
    compared, _ = run_shell(
        replace(block, text="ifmdm data diff" + rest), {"6ea4b8": old[:6], "a91c02": new[:6]}
    )
    assert "cosine" in compared


def test_taking_a_person_out(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(dataset, tmp_path / "set")
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    told, _, _ = run_shell(GUIDE.block("--source people/anna.mp4"), {"people/anna.mp4": "videos/p0.mp4"})
    assert "videos/p0.mp4" in told
    code, said = run_ifmdm("data", "ls", "set")
    assert (code, "consent withdrawn" in said) == (0, True), said
