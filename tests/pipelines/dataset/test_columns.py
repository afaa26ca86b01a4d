"""Parts of shards, from a folder and from a bucket over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.storage import S3Config
from pipelines.dataset.columns import LIGHT, read_batches, read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.reader import MotionReader
from pipelines.inspect.verify import verify
from pipelines.run.patient_storage import PatientStorage


@pytest.fixture(scope="module", params=["folder", "bucket", "patient bucket"])
def dataset(
    request: pytest.FixtureRequest,
    make_dataset: Callable[..., Dataset],
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    if request.param == "folder":
        return make_dataset(tmp_path_factory.mktemp("columns") / "set")
    config: S3Config = request.getfixturevalue("s3_config")
    made = make_dataset("s3://renders/columns", config)
    if request.param == "bucket":
        return made
    return Dataset(PatientStorage.open("s3://renders/columns", config), made.manifest)


def test_columns_are_those_of_the_rows_in_the_order_asked_for(dataset: Dataset) -> None:
    assert read_columns(dataset, "00000", ["size", "clip_id"]).column_names == ["size", "clip_id"]
    for shard in dataset.generation()[1].shards:
        with dataset.clips(shard) as clips:
            assert read_columns(dataset, shard).to_pylist() == clips.select(LIGHT).to_pylist()


def test_features_come_with_their_holes(dataset: Dataset) -> None:
    speech = dataset.features("speech")
    batches = [batch for e in speech.shards.values() for batch in read_batches(dataset.storage, e, "speech")]
    assert sum(batch["speech"].null_count for batch in batches) == sum(
        e.holes for e in speech.shards.values()
    )


def test_what_cannot_be_read_is_named(dataset: Dataset) -> None:
    entry = dataset.generation()[1].shards["00000"]
    with pytest.raises(NotFound, match="no clip shard '00099'"):
        read_columns(dataset, "00099")
    with pytest.raises(BadInput, match="no column 'sharpnes'; did you mean 'sharpness'"):
        list(read_batches(dataset.storage, entry, "clips", ["sharpnes"]))
    with pytest.raises(BadInput, match="is no motion shard"):
        list(read_batches(dataset.storage, entry, "motion"))
    with pytest.raises(Conflict, match="the manifest says 7"):
        list(read_batches(dataset.storage, entry.model_copy(update={"bytes": 7}), "clips"))
    gone = entry.model_copy(update={"key": "clips/none/00000-00000000.arrow"})
    with pytest.raises(NotFound, match="00000-00000000"):
        list(read_batches(dataset.storage, gone, "clips"))


def test_a_file_that_is_no_arrow_file_is_bad_input(dataset: Dataset) -> None:
    dataset.storage.put("clips/x/00000-00000000.arrow", b"no arrow file" * 10)
    entry = dataset.generation()[1].shards["00000"]
    other = entry.model_copy(update={"key": "clips/x/00000-00000000.arrow", "bytes": 130})
    with pytest.raises(BadInput, match="no readable Arrow file"):
        list(read_batches(dataset.storage, other, "clips"))


def test_a_bucket_and_a_folder_read_alike(
    make_dataset: Callable[..., Dataset], s3_config: S3Config, tmp_path: Path
) -> None:
    folder, bucket = make_dataset(tmp_path / "set"), make_dataset("s3://renders/alike", s3_config)
    assert folder.manifest.content == bucket.manifest.content
    for one, other in zip(
        MotionReader(folder).windows(12, seed=1, epoch=2),
        MotionReader(bucket, scratch=tmp_path).windows(12, seed=1, epoch=2),
        strict=True,
    ):
        assert (one.clip_id, one.first_frame, one.after) == (other.clip_id, other.first_frame, other.after)
        assert (one.motion == other.motion).all()
        assert (one.speech == other.speech).all()
    assert list(tmp_path.glob("ifmdm-read-*")) == []
    assert verify(bucket).damage == []
    gone = bucket.features("motion").shards["00001"].key
    bucket.storage.delete(gone)
    for quick in (True, False):
        assert [(d.ref.key, d.what) for d in verify(bucket, quick).damage] == [(gone, "is not there")]
