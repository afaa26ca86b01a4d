"""What became of a manifest's rows, and of chosen jobs, as CSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Conflict
from jobs.client import JobClient
from jobs.gc import DAY_S, collect
from jobs.manifest.journal import journal_beside, read_journal
from jobs.results import of_journal
from tests.jobs.command_line import Commands
from tests.jobs.small_store import SmallStore


@pytest.fixture
def small(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


@pytest.fixture
def jobs(small: SmallStore, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(small, capsys)


@pytest.fixture
def manifest(small: SmallStore, jobs: Commands, tmp_path: Path) -> Path:
    """Four rows: one is published, one fails, one was refused, one waits."""
    path = tmp_path / "rows.csv"
    rows = [
        ("good", "in/ann.png"),
        ("bad", "in/ann.png"),
        ("refused", "in/nobody.png"),
        ("late", "in/ann.png"),
    ]
    lines = [
        f"{small.uri(portrait)},{small.uri('in/ann.wav')},{small.uri(f'out/{name}.mp4')},{later}"
        for (name, portrait), later in zip(rows, ("", "", "", "9999999999"))
    ]
    path.write_text("\n".join(["portrait,audio,output,not_before", *lines]) + "\n")
    jobs("submit", "--manifest", str(path), code=2)
    _, bad, *_ = (row.id for row in read_journal(journal_beside(path)))
    small.renderer.faults = lambda task: BadInput("=cmd: no face") if task.id == bad else None
    small.work()
    return path


def test_every_row_of_a_manifest_has_its_line(small: SmallStore, jobs: Commands, manifest: Path) -> None:
    lines = list(csv.DictReader(jobs("results", "--manifest", str(manifest)).out.splitlines()))
    assert [line["row"] for line in lines] == ["1", "2", "3", "4"]
    assert [line["state"] for line in lines] == ["published", "failed", "rejected", "queued"]
    assert [Path(line["output"]).name for line in lines] == ["good.mp4", "bad.mp4", "refused.mp4", "late.mp4"]
    good, bad, refused, _ = lines
    assert (good["frames"], good["busy_s"], good["error"], len(good["sha256"])) == ("40", "4.0", "", 64)
    assert (bad["error"], bad["reason"]) == ("BadInput", "'=cmd: no face")  # no formula
    assert (refused["error"], refused["field"]) == ("NotFound", "portrait")
    assert refused["fix"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_all_kinds_of_files_say_the_same(jobs: Commands, manifest: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"results{suffix}"
    told = jobs.json("results", "--manifest", str(manifest), "--out", str(out))
    assert told["states"] == {"published": 1, "failed": 1, "rejected": 1, "queued": 1}
    if suffix == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_table(out).to_pylist()
    elif suffix == ".csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(int(row["row"]), row["state"], row["field"]) for row in rows] == [
        (1, "published", ""), (2, "failed", ""), (3, "rejected", "portrait"), (4, "queued", ""),
    ]  # fmt: skip


def test_of_chosen_jobs(jobs: Commands, manifest: Path) -> None:
    lines = list(csv.DictReader(jobs("results", "--state", "failed").out.splitlines()))
    assert [(line["row"], line["state"]) for line in lines] == [("", "failed")]


def test_a_job_that_was_forgotten_is_said_to_be(small: SmallStore, manifest: Path) -> None:
    client = JobClient(small.storage.root)
    (first, *_) = of_journal(small.store, "default", journal_beside(manifest))
    small.grow_older(8 * DAY_S)
    collect(small.store, dry_run=False)
    assert (
        next(of_journal(small.store, "default", journal_beside(manifest))) == first
    )  # its record says as much
    for key in small.keys(client.ref(first.id).folder):
        small.storage.delete(key)
    assert next(of_journal(small.store, "default", journal_beside(manifest))).state == "forgotten"


def test_misuse_is_refused(
    small: SmallStore, jobs: Commands, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "add --out" in jobs("results", "--json", code=2).err
    assert "end in one of .csv" in jobs("results", "--out", str(tmp_path / "x.xls"), code=2).err
    assert (
        "leave one of them out" in jobs("results", "--manifest", str(manifest), "--state", "dead", code=2).err
    )
    assert "no journal" in jobs("results", "--manifest", str(tmp_path / "none.csv"), code=3).err
    other = SmallStore(tmp_path / "other")
    with pytest.raises(Conflict, match="is about tenant 'default' of"):
        next(of_journal(other.store, "default", journal_beside(manifest)))
