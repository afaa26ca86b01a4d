"""A dataset whose features were made by the encoders of a tiny bundle, and a configuration that trains on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet, Manifest, commit, feature_inputs, replaced
from pipelines.dataset.shard_file import write_feature_shard
from pipelines.features.encoders import EncoderIdentity, motion_identity, speech_identity

HELD_OUT = "chioma"


def walk(clip_id: str, frames: int, dim: int) -> np.ndarray:
    """Smooth values [frames, dim] in (-1, 1), a function of the arguments."""
    random = np.random.default_rng([int(clip_id[:8], 16), dim])
    return np.tanh(0.4 * np.cumsum(random.normal(0, 0.2, (frames, dim)), 0))


def add_features(
    dataset: Dataset, identity: EncoderIdentity, created: str = "2026-01-01T00:00:00Z"
) -> Dataset:
    """Lists a feature set as that encoder would have made it, with made-up values."""
    name, clips = dataset.generation()
    digest, dtype = identity.digest(name), np.float32 if identity.kind == "motion" else np.float16
    entries = {}
    for shard, entry in clips.shards.items():
        with dataset.clips(shard) as table, tempfile.TemporaryDirectory() as scratch:
            rows = table.select(["clip_id", "num_frames"]).to_pylist()
            values = [walk(r["clip_id"], r["num_frames"], identity.dim).astype(dtype) for r in rows]
            entries[shard] = write_feature_shard(
                dataset.storage, f"{identity.kind}/{digest}", shard, identity.kind, identity.dim,
                [r["clip_id"] for r in rows], values, inputs=feature_inputs(digest, entry), clips_key=entry.inputs,
                scratch=Path(scratch),
            )  # fmt: skip
    features = FeatureSet(
        kind=identity.kind, digest=digest, generation=name, dim=identity.dim, encoder=identity.encoder,
        created=created, shards=entries,
    )  # fmt: skip

    def listed(manifest: Manifest) -> Manifest:
        return manifest.model_copy(
            update={"features": replaced(manifest.features, {features.name: features})}
        )

    return Dataset(dataset.storage, commit(dataset.storage, listed))


@pytest.fixture(scope="session")
def lip_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a map from motion to lips in it, as a trained one has."""
    from ifmdm_core.bundle import load_bundle, save_bundle
    from ifmdm_core.weights import save_weights

    folder = tmp_path_factory.mktemp("bundles") / "lips"
    bundle = load_bundle(tiny_bundle)
    motion = bundle.motion()
    motion.lip_map.copy_(torch.randn(motion.lip_map.shape, generator=torch.Generator().manual_seed(0)))
    save_weights(
        folder.with_name("motion.safetensors"), motion, motion.config, {"encoder": bundle.record.encoder}
    )
    save_bundle(
        folder, name="lips", autoencoder=tiny_bundle / "autoencoder.safetensors",
        motion=folder.with_name("motion.safetensors"), speech=tiny_bundle / "speech",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def tiny_set(
    make_dataset: Callable[..., Dataset], tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two dozen clips of three people, one of them held out; do not write to it."""
    root = tmp_path_factory.mktemp("training") / "set"

    def change(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "split": "heldout" if row["identity"] == HELD_OUT else "train"}

    dataset = make_dataset(root, shards=4, clips=6, frames=40, features=(), change=change)
    add_features(add_features(dataset, speech_identity(tiny_bundle)), motion_identity(tiny_bundle))
    return root


@pytest.fixture(scope="session")
def figures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's database for all of these tests: making one takes longer than a training here."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def motion_config(figures: str, tiny_set: Path, lip_bundle: Path, tmp_path: Path) -> dict[str, Any]:
    """Trains a tiny stage 2 for a few steps into `tmp_path / "runs"`."""
    return {
        "data": {"dataset": str(tiny_set), "batch": 8, "threads": 1, "validation_clips": 3},
        "model": {"preset": "demo", "speech_dim": 16, "width": 16, "depth": 1, "heads": 2},
        "reference": str(lip_bundle),
        "videos": 0,
        "controls": {"steps": 2},
        "fit": {"steps": 12, "checkpoint_steps": 4, "validate_steps": 6, "log_steps": 2},
        "runs": str(tmp_path / "runs"),
        "tracking": {"uri": figures, "system_metrics": False, "patience_s": 30},
    }
