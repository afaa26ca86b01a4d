"""The looking commands as people call them: exit codes, JSON, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from ifmdm_core.errors import BadInput, Conflict, NotFound
from pipelines.commands import inspect
from pipelines.dataset.dataset import Dataset

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `ifmdm data ARGUMENTS`, gives what it prints."""
    app = typer.Typer()
    inspect.register(app)

    def call(*arguments: Any) -> str:
        capsys.readouterr()
        app(args=[str(argument) for argument in arguments], prog_name="ifmdm data", standalone_mode=False)
        return capsys.readouterr().out

    return call


@pytest.fixture
def root(dataset: Dataset) -> str:
    return str(dataset.storage.root)


def test_ls_tells_what_there_is(run: Run, root: str, dataset: Dataset) -> None:
    run("select", root, "good", "--min", "sharpness=0")
    account = json.loads(run("ls", root, "--json"))
    (clips,) = account["generations"]
    assert (clips["clips"], clips["shards"], clips["shards_to_do"], clips["sources"]) == (12, 3, 0, 6)
    assert clips["hours"] == pytest.approx(clips["frames"] / 25 / 3600)
    assert {f["kind"]: f["shards"] for f in account["features"]} == {"speech": 3, "motion": 3}
    assert account["selections"][0]["outdated"] is False
    assert account["bytes"] == sum(file.bytes for file in dataset.refresh().manifest.files().values())
    text = run("ls", root)
    assert dataset.features("motion").digest in text
    assert "good" in text


def test_select_counts_what_it_drops_and_writes_only_without_dry_run(
    run: Run, root: str, dataset: Dataset
) -> None:
    text = run("select", root, "sharp", "--min", "sharpness=200", "--sound", "--dry-run")
    assert "sharpness < 200" in text
    assert "no sound" in text
    assert dataset.refresh().manifest.selections == {}
    chosen = json.loads(run("select", root, "sharp", "--max", "head_motion=0.1", "--json"))
    assert sum(chosen["counts"].values()) == 12
    assert list(dataset.refresh().manifest.selections) == ["sharp"]
    with pytest.raises(BadInput, match="no COLUMN=NUMBER"):
        run("select", root, "x", "--min", "sharpness")


def test_verify_exits_with_a_conflict_that_names_the_shard_until_it_is_repaired(
    run: Run, root: str, dataset: Dataset
) -> None:
    assert "checked 10 files" in run("verify", root)
    path = dataset.storage.local_path(dataset.features("speech").shards["00001"].key)
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    name = f"{dataset.features('speech').name}/00001"
    with pytest.raises(Conflict, match=f"damaged: {name}"):
        run("verify", root)
    run("verify", root, "--quick")  # the size is as it was
    report = json.loads(run("verify", root, "--repair", "--json"))
    assert [d["shard"] for d in report["damage"]] == [name]
    assert f"unfinished  {name}: not made yet" in run("verify", root)


def test_a_place_without_a_dataset_says_so(run: Run, tmp_path: Path) -> None:
    for command in (["ls"], ["verify"], ["select"]):
        extra = ["x"] if command == ["select"] else []
        with pytest.raises(NotFound, match="is no dataset"):
            run(*command, tmp_path / "nothing", *extra)


def test_stats_are_written_as_page_and_picture(run: Run, root: str, tmp_path: Path) -> None:
    text = run("stats", root, "--out", tmp_path / "report.html", "--png", tmp_path / "report.png")
    assert text.startswith("12 clips")
    assert "motion/" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(run("stats", root, "--json"))["sources"] == 6


def test_diff_and_sample_run(
    run: Run, root: str, tmp_path: Path, dataset: Dataset, add_features: Callable[..., Dataset]
) -> None:
    first = dataset.features("motion").digest
    second = add_features(dataset, "motion", "second").features("motion").digest
    found = json.loads(run("diff", root, first[:6], second[:6], "--json", "--worst", 2))
    assert (found["clips"], len(found["worst"])) == (12, 2)
    assert "R² of the best linear map" in run("diff", root, first, second)
    assert "3 clips" in run("sample", root, "-o", tmp_path / "sheet.jpg", "-n", 3)
    with pytest.raises(BadInput, match="cannot write this kind"):
        run("sample", root, "-o", tmp_path / "sheet.gif")
    with pytest.raises(NotFound, match="no motion features beef"):
        run("sample", root, "-o", tmp_path / "sheet.jpg", "--motion", "beef")
