"""Whole runs of `data features` against a bucket over HTTP; what is opened and written is counted by the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import open_storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.parameters import ClipParameters
from pipelines.run.clips import ClipsRun
from pipelines.run.features import FeaturesRun
from pipelines.run.pool import Pool
from pipelines.run.progress import Progress
from pipelines.run.settings import RunSettings
from pipelines.run.workers import ClipWorker, FeatureWorker, start
from tests.fault_proxy import FaultProxy
from tests.talking_videos import write_talking_video

VIDEOS = 6
SETTINGS = RunSettings(workers=1, max_bad_fraction=1)


@dataclass
class Bucket:
    """A bucket of videos, a dataset made of them, and the server's own count of requests."""

    server: FaultProxy
    source: str
    dataset: str

    def clips(self) -> dict[str, Any]:
        parameters = ClipParameters(size=128)
        with Progress("clips", quiet=True) as progress:
            run = ClipsRun(self.source, self.dataset, parameters, SETTINGS, self.server.config, shard_s=4)
            return run.run(
                lambda: Pool(
                    lambda: start(ClipWorker, SETTINGS, self.dataset, parameters, self.server.config), 1
                ),
                progress,
            )

    def features(self, **models: str) -> dict[str, Any]:
        run = FeaturesRun(self.dataset, SETTINGS, s3=self.server.config, **models)
        with Progress("features", quiet=True) as progress:
            return run.run(
                lambda: Pool(
                    lambda: start(
                        FeatureWorker,
                        SETTINGS,
                        self.dataset,
                        run.generation_name,
                        run.wanted,
                        self.server.config,
                    ),
                    1,
                ),
                progress,
            )

    def upload(self, video: Path) -> None:
        open_storage(self.source, self.server.config).upload(video.name, video)

    def handle(self) -> Dataset:
        return Dataset.open(self.dataset, self.server.config)

    def requests(self, method: str, folder: str) -> Counter[str]:
        """Objects under a folder that were asked for since `seen` was cleared, with the number of requests."""
        paths = [unquote(urlsplit(path).path) for verb, path in self.server.seen if verb == method]
        return Counter(path.rpartition(f"/{folder}/")[2] for path in paths if f"/{folder}/" in path)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_talking_video(folder / f"{k} talk.mp4", k, 2.0, size=128) for k in range(VIDEOS + 1)]


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str, s3_config: Any, videos: list[Path]) -> Iterator[Bucket]:
    from pipelines.run.cluster import connect

    with FaultProxy(s3_endpoint, s3_config) as server, connect(cpus=2):
        bucket = Bucket(server, "s3://renders/features/videos", "s3://renders/features/set")
        for video in videos[:VIDEOS]:
            bucket.upload(video)
        bucket.clips()
        yield bucket


def test_a_second_encoder_opens_each_clip_shard_once_and_no_source_and_writes_only_its_own_set(
    bucket: Bucket, tiny_bundle: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    first = bucket.features(speech=str(tiny_bundle), motion=str(tiny_bundle))
    assert {name.partition("/")[0]: s["rows"] for name, s in first["sets"].items()} == {
        "speech": VIDEOS, "motion": VIDEOS,
    }  # fmt: skip
    before = bucket.handle().manifest

    bucket.server.seen.clear()
    second = bucket.features(motion=str(make_bundle(tmp_path / "other", seed=1)))
    (name,) = second["sets"]
    assert name not in first["sets"]
    assert bucket.requests("GET", "videos") == bucket.requests("HEAD", "videos") == {}
    shards = {entry.key.rpartition("/")[2] for entry in bucket.handle().generation()[1].shards.values()}
    generation = bucket.handle().generation()[0]
    assert bucket.requests("GET", f"clips/{generation}") == dict.fromkeys(shards, 1)
    assert len(bucket.requests("PUT", name)) == len(shards)
    written = {
        path.split("/features/set/")[-1] for verb, path in bucket.server.seen if verb in ("PUT", "POST")
    }
    assert {key.partition("/")[0] for key in written} == {"motion", "manifests"}

    after = bucket.handle().manifest
    assert after.generations == before.generations
    assert {n: s for n, s in after.features.items() if n != name} == before.features

    bucket.server.seen.clear()
    bucket.features(speech=str(tiny_bundle), motion=str(tiny_bundle))
    assert [verb for verb, _ in bucket.server.seen if verb in ("PUT", "POST")] == [], (
        "all is there: nothing is done"
    )


def test_one_more_file_touches_one_shard_of_each_kind(
    bucket: Bucket, videos: list[Path], tiny_bundle: Path
) -> None:
    models = {"speech": str(tiny_bundle), "motion": str(tiny_bundle)}
    sets = bucket.features(**models)["sets"]
    old = bucket.handle().generation()[1].shards
    bucket.upload(videos[-1])
    bucket.server.seen.clear()
    assert bucket.clips()["clips"] == VIDEOS + 1
    assert list(bucket.requests("GET", "videos")) == [videos[-1].name], "no other source is read again"
    new = bucket.handle().generation()[1].shards
    changed = [name for name, entry in new.items() if old.get(name) != entry]
    assert len(changed) == 1
    assert len(bucket.requests("PUT", f"clips/{bucket.handle().generation()[0]}")) == 1

    bucket.server.seen.clear()
    bucket.features(**models)
    for name in sets:
        assert len(bucket.requests("PUT", name)) == 1
        with bucket.handle().aligned(changed[0], bucket.handle().manifest.features[name]) as (
            clips,
            features,
        ):
            assert features.num_rows == clips.num_rows
            assert features.column(name.partition("/")[0]).null_count == 0


def test_features_of_a_dataset_that_is_not_there_say_so(bucket: Bucket, tiny_bundle: Path) -> None:
    with pytest.raises(NotFound, match="has no clips"):
        FeaturesRun("s3://renders/nothing", SETTINGS, motion=str(tiny_bundle), s3=bucket.server.config)
