"""The maintenance commands as people call them: what is printed, JSON, and what is left on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer

from ifmdm_core.errors import BadInput, NotFound
from pipelines.commands import maintain
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import commit
from pipelines.dataset.quarantine import QuarantineRecord, write_records

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], dataset: Dataset) -> Run:
    """Runs `ifmdm data COMMAND DATASET OPTIONS`, gives what it prints."""
    app = typer.Typer()
    maintain.register(app)

    def call(command: str, *options: Any, root: str = str(dataset.storage.root.path)) -> str:
        capsys.readouterr()
        app(args=[command, root, *map(str, options)], prog_name="ifmdm data", standalone_mode=False)
        return capsys.readouterr().out

    return call


def files(dataset: Dataset) -> list[str]:
    return [item.key for item in dataset.storage.list()]


def test_a_source_is_removed_and_its_bytes_deleted(run: Run, dataset: Dataset):
    before = files(dataset)
    said = run("remove", "--source", "anna/talk 00.mp4", "--why", "asked to", "--dry-run")
    assert "2 clips" in said
    assert "would be removed" in said
    assert files(dataset) == before
    report = json.loads(run("remove", "--source", "anna/talk 00.mp4", "--why", "asked to", "--json"))
    assert report["features"] == sorted(dataset.manifest.features, reverse=True)
    removed = dataset.refresh()
    assert removed.manifest.removals[0].why == "asked to"
    assert "more files are unlisted" in run("prune")
    run("prune", "--grace", 0, "--keep-manifests", 1)
    assert {k for k in files(dataset) if "manifests" not in k} == set(removed.manifest.files())


def test_shards_of_another_size(run: Run, dataset: Dataset):
    assert "would be 6" in run("reshard", "--seconds", 10, "--dry-run")
    assert json.loads(run("reshard", "--seconds", 10, "--json"))["after"] == 6
    assert len(dataset.refresh().generation()[1].shards) == 6
    with pytest.raises(BadInput, match="one size"):
        run("reshard")


def test_pruning_names_the_set_and_its_bytes(run: Run, dataset: Dataset, add_features):
    old = dataset.features("motion")
    add_features(dataset, "motion", "second")
    said = run("prune", "--dry-run")
    assert old.name in said
    assert "3 files" in said
    assert "would be deleted" in said
    assert not json.loads(run("prune", "--keep", old.digest, "--json"))["sets"]
    assert list(json.loads(run("prune", "--json"))["sets"]) == [old.name]


def test_refusals_in_groups_and_tried_again(run: Run, dataset: Dataset):
    stage = f"clips-{dataset.manifest.current}"
    records = [
        QuarantineRecord(stage=stage, shard="00000", source=f"a/{k}.mp4", reason="no face", span=(0.0, 9.5))
        for k in range(3)
    ]
    ref = write_records(dataset.storage, stage, "00000", records)
    commit(dataset.storage, lambda b: b.model_copy(update={"quarantine": {f"{stage}/00000": ref}}))
    assert "3  no face  (3 sources" in run("quarantine")
    assert "a/1.mp4 0-9.5 s: no face" in run("quarantine", "--by", "none")
    assert len(json.loads(run("quarantine", "--source", "a/1.mp4", "--json"))) == 1
    assert "would be forgotten" in run("quarantine", "--retry", "--dry-run")
    assert "run `ifmdm data clips`" in run("quarantine", "--retry", "--reason", "no face")
    assert not dataset.refresh().manifest.quarantine
    with pytest.raises(BadInput, match="did you mean 'folder'"):
        run("quarantine", "--by", "folders")


@pytest.mark.parametrize("command", ["prune", "quarantine", "reshard"])
def test_no_dataset_there(run: Run, tmp_path, command: str):
    with pytest.raises(NotFound, match="is no dataset"):
        run(command, root=str(tmp_path / "nowhere"))
