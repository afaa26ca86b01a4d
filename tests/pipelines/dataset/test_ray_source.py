"""Ray Data over the shards: every row once, only the columns asked for, from a folder and a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import S3Config
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset

pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def local_ray(s3_endpoint: str) -> Iterator[None]:
    import ray.data

    from pipelines.run.cluster import connect

    with connect(cpus=2):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        yield


def test_every_row_comes_once(
    local_ray: None, make_dataset: Callable[..., Dataset], s3_config: S3Config, tmp_path: Path
) -> None:
    from pipelines.dataset.ray_source import read_dataset

    dataset = make_dataset(tmp_path / "set")
    make_dataset("s3://renders/for-ray", s3_config)
    expected = {
        row["clip_id"]: row["num_frames"]
        for shard in dataset.generation()[1].shards
        for row in read_columns(dataset, shard, ("clip_id", "num_frames")).to_pylist()
    }
    for uri, s3 in ((str(tmp_path / "set"), None), ("s3://renders/for-ray", s3_config)):
        clips = read_dataset(uri, columns=["clip_id", "video"], s3=s3)
        assert clips.schema().names == ["clip_id", "video"]
        rows = clips.take_all()
        assert sorted(row["clip_id"] for row in rows) == sorted(expected)
        assert all(row["video"][4:8] == b"ftyp" for row in rows)
    motion = read_dataset(tmp_path / "set", "motion").map_batches(_frames, batch_size=3).take_all()
    assert {row["clip_id"]: row["frames"] for row in motion} == expected


def _frames(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"clip_id": batch["clip_id"], "frames": np.array([len(motion) for motion in batch["motion"]])}


def test_what_is_not_there_is_refused_before_anything_runs(dataset: Dataset) -> None:
    from pipelines.dataset.ray_source import read_dataset

    root = str(dataset.storage.root)
    with pytest.raises(BadInput, match="one of clips, speech, motion"):
        read_dataset(root, "video")
    with pytest.raises(NotFound, match="no motion features abc"):
        read_dataset(root, "motion", digest="abc")
