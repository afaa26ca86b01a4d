"""Maintenance leaves a dataset that verifies, on a bucket over HTTP byte for byte as in a folder."""

import os
import time

from pipelines.dataset.dataset import Dataset
from pipelines.inspect.verify import verify
from pipelines.maintain.prune import prune
from pipelines.maintain.remove import remove
from pipelines.maintain.reshard import reshard


def test_on_a_bucket_as_in_a_folder(make_dataset, tmp_path, s3_config):
    ended = []
    for root, s3 in ((tmp_path / "set", None), ("s3://renders/maintain", s3_config)):
        dataset: Dataset = make_dataset(root, s3)
        dataset, _ = reshard(dataset, seconds=30)
        dataset, removed = remove(dataset, ["ben/talk 01.mp4"], "asked to")
        assert removed.clips == 2
        prune(dataset, grace_s=0)
        dataset = dataset.refresh()
        report = verify(dataset)
        assert (report.damage, report.unfinished, report.rows) == ([], [], 10)
        kept = {i.key for i in dataset.storage.list() if not i.key.startswith("manifests/")}
        assert kept == set(dataset.manifest.files())
        ended.append((dataset.manifest.content, kept))
    assert ended[0] == ended[1]


def test_a_fresh_extraction_without_the_source_has_the_same_bytes(make_dataset, tmp_path):
    """What is left after a removal is what cutting the other sources alone gives."""
    dataset, _ = remove(make_dataset(tmp_path / "set"), ["chioma/talk 05.mp4"], "asked to")
    other = make_dataset(tmp_path / "other")
    for name in ("00000", "00001"):
        assert dataset.generation()[1].shards[name].sha256 == other.generation()[1].shards[name].sha256
    with dataset.clips("00002") as left, other.clips("00002") as right:
        assert left.to_pylist() == right.slice(0, 2).to_pylist()


def test_a_store_with_its_clock_elsewhere(make_dataset, tmp_path):
    """Ages are by the store's clock: files an hour ahead of this machine are young, not from the future."""
    dataset = make_dataset(tmp_path / "set")
    after, _ = reshard(dataset, seconds=10)
    ahead = time.time() + 3600
    for path in (tmp_path / "set").rglob("*"):
        if path.is_file():
            os.utime(path, (ahead, ahead))
    assert not prune(after).files
