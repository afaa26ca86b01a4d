"""Every kind of harm is found and named; repair un-lists it; what is only unfinished is no harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import Conflict
from ifmdm_core.storage import open_storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FileRef, Manifest, commit
from pipelines.dataset.quarantine import QuarantineRecord, write_records
from pipelines.inspect.repair import repair
from pipelines.inspect.verify import verify


def flip(dataset: Dataset, key: str, at: int) -> None:
    path = dataset.storage.local_path(key)
    assert path is not None
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.write_bytes(data)


def test_a_whole_dataset_has_no_findings(dataset: Dataset) -> None:
    seen: list[FileRef] = []
    report = verify(dataset, on_file=seen.append)
    assert (report.damage, report.unfinished) == ([], [])
    assert report.rows == 12
    assert report.files == len(seen) == len(dataset.manifest.files()) == 10  # a plan, 3 shards of each kind
    assert verify(dataset, quick=True).damage == []


@pytest.fixture(scope="module")
def shared(make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("shared") / "set")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 9), at=st.integers(0, 1 << 20))
def test_one_flipped_bit_anywhere_names_its_file(shared: Dataset, which: int, at: int) -> None:
    key = sorted(shared.manifest.files())[which]
    flip(shared, key, at)
    try:
        (damage,) = verify(shared).damage
    finally:
        flip(shared, key, at)
    assert damage.ref.key == key
    if key.endswith(".arrow"):
        kind, owner, name = key.split("/")
        assert damage.name == f"{kind}/{owner}/{name.partition('-')[0]}"
    assert "sha256" in damage.what


def test_a_missing_and_a_short_file_are_found_without_reading(dataset: Dataset) -> None:
    first, second = (e.key for e in list(dataset.features("motion").shards.values())[:2])
    dataset.storage.delete(first)
    path = dataset.storage.local_path(second)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-7])
    for quick in (True, False):
        gone, short = verify(dataset, quick=quick).damage
        assert (gone.ref.key, gone.what) == (first, "is not there")
        assert short.ref.key == second
        assert "bytes, the manifest says" in short.what


def test_repair_unlists_what_is_damaged_and_nothing_else(dataset: Dataset) -> None:
    clips = dataset.generation()[1].shards["00001"]
    motion = dataset.features("motion").shards["00002"]
    flip(dataset, clips.key, 1000)
    flip(dataset, motion.key, 1000)
    fixed = repair(dataset, verify(dataset).damage)
    assert set(fixed.generation()[1].shards) == {"00000", "00002"}
    assert set(fixed.features("motion").shards) == {"00000", "00001"}
    assert set(fixed.features("speech").shards) == {"00000", "00001", "00002"}
    after = verify(fixed)
    assert after.damage == []
    assert [line.partition(":")[0].rpartition("/")[2] for line in after.unfinished] == ["00001", "00002"]
    assert fixed.storage.info(clips.key) is not None  # nothing is deleted


def test_repair_leaves_a_shard_alone_that_was_made_again_meanwhile(dataset: Dataset) -> None:
    entry = dataset.generation()[1].shards["00001"]
    flip(dataset, entry.key, 1000)
    damage = verify(dataset).damage
    name, generation = dataset.generation()
    newer = entry.model_copy(update={"sha256": "0" * 64, "key": f"clips/{name}/00001-00000000.arrow"})

    def remake(manifest: Manifest) -> Manifest:
        shards = {**generation.shards, "00001": newer}
        again = generation.model_copy(update={"shards": shards})
        return manifest.model_copy(update={"generations": {name: again}})

    commit(dataset.storage, remake)
    assert repair(dataset, damage).generation()[1].shards["00001"] == newer


def test_a_damaged_plan_cannot_be_made_again(dataset: Dataset) -> None:
    flip(dataset, dataset.generation()[1].plan.key, 40)
    with pytest.raises(Conflict, match="cannot be made again"):
        repair(dataset, verify(dataset).damage)


def test_a_lost_quarantine_list_makes_its_shard_be_looked_at_again(dataset: Dataset) -> None:
    name, generation = dataset.generation()
    stage = f"clips-{name}"
    record = QuarantineRecord(stage=stage, shard="00002", source="x.mp4", reason="damaged")
    ref = write_records(dataset.storage, stage, "00002", [record])
    assert ref is not None

    def listed(manifest: Manifest) -> Manifest:
        return manifest.model_copy(update={"quarantine": {f"{stage}/00002": ref}})

    dataset = Dataset(dataset.storage, commit(dataset.storage, listed))
    assert verify(dataset).damage == []
    flip(dataset, ref.key, 5)
    fixed = repair(dataset, verify(dataset).damage)
    assert fixed.manifest.quarantine == {}
    assert {n: e.inputs == generation.shards[n].inputs for n, e in fixed.generation()[1].shards.items()} == {
        "00000": True, "00001": True, "00002": False,
    }  # fmt: skip
    after = verify(fixed)
    assert after.damage == []
    assert f"clips/{name}/00002: made from something older" in after.unfinished


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda row: np.zeros((row["num_frames"] - 1, 20), np.float32), "frames, its clip"),
        (lambda row: np.full((row["num_frames"], 20), np.nan, np.float32), "not finite"),
    ],
)
def test_features_that_do_not_fit_their_clips_are_damage(
    dataset: Dataset, add_features: Callable[..., Dataset], harm: Callable[..., np.ndarray], what: str
) -> None:
    damage = verify(add_features(dataset, "motion", "wrong", harm)).damage
    assert len(damage) == 3
    assert all(what in d.what for d in damage)


def test_clips_that_are_there_twice_are_named(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    def same(row: dict[str, object]) -> dict[str, object]:
        return {**row, "clip_id": "ab" * 16} if row["identity"] == "anna" else row

    damage = verify(make_dataset(tmp_path / "twice", features=(), change=same)).damage
    assert {d.what for d in damage} == {"holds clips that are there twice"}


def test_what_is_not_made_yet_is_no_damage(dataset: Dataset) -> None:
    name, generation = dataset.generation()
    older = generation.shards["00000"].model_copy(update={"inputs": "f" * 32})

    def change(manifest: Manifest) -> Manifest:
        shards = {"00000": older, "00001": generation.shards["00001"]}
        again = generation.model_copy(update={"shards": shards})
        return manifest.model_copy(update={"generations": {name: again}})

    fewer = Dataset(dataset.storage, commit(dataset.storage, change))
    unfinished = verify(fewer, quick=True).unfinished
    assert f"clips/{name}/00002: not made yet" in unfinished
    assert f"clips/{name}/00000: made from something older" in unfinished


def test_an_empty_place_is_whole(tmp_path: Path) -> None:
    report = verify(Dataset(open_storage(tmp_path / "none"), Manifest()))
    assert (report.files, report.damage) == (0, [])
