"""Small real datasets, written by the dataset's own writers: clips with H.264 and FLAC, feature sets, a plan."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ifmdm_core.media.clip_codec import encode_clip, encode_sound
from ifmdm_core.storage import S3Config
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.ids import clip_id, feature_digest
from pipelines.dataset.manifest import (
    FeatureSet,
    FileRef,
    Generation,
    Manifest,
    ShardEntry,
    commit,
    feature_inputs,
    replaced,
)
from pipelines.dataset.parameters import ClipParameters
from pipelines.dataset.plan import Plan, PlannedShard, PlannedSource, Span, extend
from pipelines.dataset.shard_file import write_clip_shard, write_feature_shard

PER_SOURCE = 2  # clips that one source gives
PEOPLE = ("anna", "ben", "chioma")
DIMS = {"speech": 8, "motion": 20}


def picture(seed: int, frame: int, size: int) -> np.ndarray:
    """uint8 [size, size, 3] that tells the clip by its colour and the frame by a bright bar."""
    image = np.full((size, size, 3), np.random.default_rng(seed).integers(30, 180, 3), np.uint8)
    image[: size // 4, : (frame + 1) * size // 64 % size + 1] = 240
    return image


def clip_row(
    source: PlannedSource, span: Span, number: int, generation: str, frames: int, size: int
) -> dict[str, Any]:
    """Clip `number` of a span: every value a function of the arguments. Each fourth clip has no sound."""
    start = span.start + number * frames / 25
    name = clip_id(source.sha256, start, start + frames / 25, generation)
    seed = int(name[:8], 16)
    random = np.random.default_rng(seed)
    silent = seed % 4 == 0
    sound = (0.1 * random.standard_normal(frames * 640)).astype(np.float32)
    return {
        "clip_id": name, "source": source.file, "source_sha256": source.sha256,
        "span": [start, start + frames / 25], "num_frames": frames, "size": size,
        "face_box": [10.0, 20.0, 100.0, 120.0], "crop_box": [0.0, 0.0, 200.0],
        "av_offset": None if silent else float(random.normal(0.08, 0.005)),
        "av_confidence": None if silent else float(random.uniform(1, 4)),
        "face_size": float(random.uniform(60, 300)), "sharpness": float(random.uniform(20, 400)),
        "brightness": float(random.uniform(0.2, 0.8)), "head_motion": float(random.uniform(0, 0.5)),
        "loudness": None if silent else float(random.uniform(-40, -10)),
        "speech_share": None if silent else float(random.uniform(0.2, 1)),
        "fingerprint": random.bytes(24) + (bytes(40) if silent else random.bytes(40)), **source.said,
        "video": encode_clip(picture(seed, k, size) for k in range(frames)),
        "audio": None if silent else encode_sound(sound),
    }  # fmt: skip


def features_of(clip: str, kind: str, frames: int, seed: int = 0) -> np.ndarray:
    """Values [frames, dim] of a clip: a walk that starts anywhere, the same for the same arguments."""
    random = np.random.default_rng([int(clip[:8], 16), len(kind), seed])
    steps = random.normal(0, 0.1, (frames, DIMS[kind]))
    steps[0] *= 5
    return np.tanh(np.cumsum(steps, 0)).astype(np.float32 if kind == "motion" else np.float16)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Writes a dataset; `make(root, shards=3, clips=4)` gives 12 clips of 6 sources and both feature sets."""

    def make(
        root: str | Path,
        s3: S3Config | None = None,
        *,
        shards: int = 3,
        clips: int = 4,
        frames: int = 30,
        size: int = 64,
        features: tuple[str, ...] = ("speech", "motion"),
        parameters: ClipParameters | None = None,
        change: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
    ) -> Dataset:
        """`frames` of clip k is frames + k % 3; `change` edits a row before it is written."""
        dataset = Dataset.at(root, s3)
        per_shard = max(1, clips // PER_SOURCE)
        table = []
        for number in range(shards * per_shard):
            person = PEOPLE[number % len(PEOPLE)]
            name = f"{person}/talk {number:02d}.mp4"
            table.append(
                PlannedSource(
                    source=name, file=name, uri=f"/videos/{name}", size=1000, stamp="1", duration=10.0,
                    sha256=hashlib.sha256(name.encode()).hexdigest(), identity=person, labels=("talk",),
                    rights="CC BY 4.0",
                )
            )  # fmt: skip
        plan = extend(Plan(parameters=parameters or ClipParameters(), shard_s=10.0 * per_shard), table)
        plan_data = plan.model_dump_json().encode()
        sha256 = hashlib.sha256(plan_data).hexdigest()
        key = f"plan/{plan.generation}-{sha256[:8]}.json"
        dataset.storage.put(key, plan_data)
        ref = FileRef(key=key, sha256=sha256, bytes=len(plan_data), rows=len(table))

        def rows(shard: PlannedShard) -> list[dict[str, Any]]:
            made: list[dict[str, Any]] = []
            for span in shard.spans:
                for k in range(PER_SOURCE):
                    length = frames + len(made) % 3
                    made.append(
                        change(clip_row(plan.sources[span.source], span, k, plan.generation, length, size))
                    )
            return made

        with tempfile.TemporaryDirectory() as scratch:
            entries = {
                shard.name: write_clip_shard(
                    dataset.storage, f"clips/{plan.generation}", shard.name, rows(shard), inputs=plan.key(shard),
                    scratch=Path(scratch),
                )
                for shard in plan.shards
            }  # fmt: skip

        def listed(manifest: Manifest) -> Manifest:
            whole = Generation(plan=ref, shards=entries)
            table = {**manifest.generations, plan.generation: whole}
            arrivals = {**manifest.arrivals, **dict.fromkeys(plan.sources, manifest.number + 1)}
            return manifest.model_copy(
                update={"generations": table, "current": plan.generation, "arrivals": arrivals}
            )

        dataset = Dataset(dataset.storage, commit(dataset.storage, listed))
        for kind in features:
            dataset = write_features(dataset, kind)
        return dataset

    return make


def write_features(
    dataset: Dataset,
    kind: str,
    encoder: str = "first",
    value: Callable[[dict[str, Any]], np.ndarray | None] | None = None,
    generation: str | None = None,
) -> Dataset:
    """Adds a feature set; a row without sound is a hole in speech, else `value(row)` or `features_of`."""
    name, clips = dataset.generation(generation)
    made = feature_digest(kind, encoder, name, fps=25)
    entries: dict[str, ShardEntry] = {}
    columns = ["clip_id", "num_frames", "audio", "source"]
    for shard, entry in clips.shards.items():
        with dataset.clips(shard, name) as table:
            rows = table.select(columns).to_pylist()
        values = []
        for row in rows:
            silent = kind == "speech" and row["audio"] is None
            made_value = value(row) if value else features_of(row["clip_id"], kind, row["num_frames"])
            values.append(None if silent else made_value)
        with tempfile.TemporaryDirectory() as scratch:
            entries[shard] = write_feature_shard(
                dataset.storage, f"{kind}/{made}", shard, kind, DIMS[kind], [row["clip_id"] for row in rows], values,
                inputs=feature_inputs(made, entry), clips_key=entry.inputs, scratch=Path(scratch),
            )  # fmt: skip
    features = FeatureSet.model_validate(
        {
            "kind": kind, "digest": made, "generation": name, "dim": DIMS[kind], "encoder": encoder,
            "made_by": {"bundle": encoder}, "created": f"2026-01-01T00:00:{len(dataset.manifest.features):02d}Z",
            "shards": entries,
        }
    )  # fmt: skip

    def listed(manifest: Manifest) -> Manifest:
        return manifest.model_copy(
            update={"features": replaced(manifest.features, {features.name: features})}
        )

    return Dataset(dataset.storage, commit(dataset.storage, listed))


@pytest.fixture(scope="session")
def add_features() -> Callable[..., Dataset]:
    """`write_features`: another feature set for a dataset that `make_dataset` made."""
    return write_features


@pytest.fixture(scope="session")
def pattern(make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dataset lies that `dataset` copies; do not write to it."""
    root = tmp_path_factory.mktemp("pattern") / "set"
    make_dataset(root)
    return root


@pytest.fixture
def dataset(pattern: Path, tmp_path: Path) -> Dataset:
    """Twelve clips of 30 to 32 frames in three shards, speech and motion; yours to damage."""
    shutil.copytree(pattern, tmp_path / "set")
    return Dataset.open(tmp_path / "set")
