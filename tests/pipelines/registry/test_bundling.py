"""Bundles from runs, files and other bundles, and which of them are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ifmdm_core.bundle import Bundle
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.motion import MotionConfig, MotionGenerator
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.talking_head import TalkingHead
from ifmdm_core.weights import load_network, save_weights
from pipelines.dataset.dataset import Dataset
from pipelines.features.encoders import speech_identity
from pipelines.registry.bundling import make_bundle
from pipelines.training.run import DataRecord
from tests.pipelines.registry.conftest import write_run


def runs_of(bundle: Bundle, room: Path) -> dict[str, str]:
    return {
        "autoencoder": write_run(
            room / "ae", "autoencoder", bundle.folder / "autoencoder.safetensors", bundle
        ),
        "motion": write_run(room / "mo", "motion", bundle.folder / "motion.safetensors", bundle),
        "speech": write_run(room / "sp", "speech", bundle.folder / "speech", bundle),
    }


def test_three_runs_become_a_bundle_that_knows_them(bundles: list[Bundle], tmp_path: Path) -> None:
    made = make_bundle(
        tmp_path / "out", name="anna", licence="CC BY", mouth_limit=1.5, **runs_of(bundles[0], tmp_path)
    )
    lineage = made.record.lineage
    assert lineage["motion_run"] == "mo"
    assert lineage["autoencoder_train_id"] == b"autoencoder".hex().ljust(32, "0")
    assert lineage["motion_dataset"] == "set"  # not where it lay on somebody's disk
    assert lineage["motion_dataset_content"] == "c" * 32
    assert lineage["motion_motion_features"] == "5" * 16
    assert (made.record.licence, made.record.mouth_limit, made.record.speaking_lips) == ("CC BY", 1.5, 1.0)
    assert not any("private" in value for value in lineage.values())
    stored = load_file(made.folder / "speech" / "model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    assert speech_identity(made.folder).encoder == speech_identity(bundles[0].folder).encoder
    TalkingHead.load(made.folder)


def test_a_part_of_another_bundle_keeps_what_that_bundle_said(bundles: list[Bundle], tmp_path: Path) -> None:
    first = make_bundle(
        tmp_path / "a",
        name="a",
        licence="CC BY",
        intended_use="tests",
        mouth_limit=0.7,
        **runs_of(bundles[0], tmp_path),
    )
    again = make_bundle(
        tmp_path / "b",
        name="b",
        autoencoder=str(first.folder),
        motion=str(first.folder),
        speech=str(first.folder),
    )
    assert (again.record.licence, again.record.intended_use) == ("CC BY", "tests")
    assert again.record.mouth_limit == 0.7
    assert again.record.lineage["motion_run"] == "mo"
    assert first.digest in again.record.lineage["motion_bundle"]


def test_a_motion_generator_of_another_encoder_is_refused_by_both_names(
    bundles: list[Bundle], tmp_path: Path
) -> None:
    runs = runs_of(bundles[0], tmp_path)
    other = str(bundles[1].folder / "autoencoder.safetensors")
    with pytest.raises(Conflict) as error:
        make_bundle(tmp_path / "out", name="x", **{**runs, "autoencoder": other})
    for word in (runs["motion"], other, bundles[0].record.encoder, bundles[1].record.encoder):
        assert word in error.value.what
    assert not (tmp_path / "out").exists()


def test_another_speech_encoder_than_the_features_is_refused_by_both_digests(
    bundles: list[Bundle], tmp_path: Path
) -> None:
    runs = runs_of(bundles[0], tmp_path)
    motion = load_network(bundles[0].folder / "motion.safetensors", MotionConfig, MotionGenerator)
    learned = speech_identity(bundles[0].folder).encoder
    lineage = {"encoder": bundles[0].record.encoder, "speech": learned}
    save_weights(tmp_path / "motion.safetensors", motion, motion.config, lineage)
    given = {**runs, "motion": str(tmp_path / "motion.safetensors")}
    make_bundle(tmp_path / "fits", name="x", **given)
    with pytest.raises(Conflict) as error:
        make_bundle(tmp_path / "out", name="x", **{**given, "speech": str(bundles[1].folder)})
    assert learned in error.value.what
    assert speech_identity(bundles[1].folder).encoder in error.value.what


def test_runs_that_cannot_be_used_are_refused(bundles: list[Bundle], tmp_path: Path) -> None:
    runs = runs_of(bundles[0], tmp_path)
    with pytest.raises(BadInput, match="is a run of motion"):
        make_bundle(tmp_path / "out", name="x", **{**runs, "autoencoder": runs["motion"]})
    with pytest.raises(NotFound, match="no run, bundle or weights file"):
        make_bundle(tmp_path / "out", name="x", **{**runs, "motion": str(tmp_path / "nowhere")})
    weights = Path(runs["motion"]) / "result" / "motion.safetensors"
    tensors = load_file(weights)
    save_file(tensors, weights, {"config": "{}"})
    with pytest.raises(Conflict, match="its record says"):
        make_bundle(tmp_path / "out", name="x", **runs)
    (Path(runs["motion"]) / "result" / "result.json").unlink()
    with pytest.raises(NotFound, match="has no result yet"):
        make_bundle(tmp_path / "out", name="x", **runs)


def test_the_mouth_limit_is_measured_on_the_clips_of_the_run(
    bundles: list[Bundle], tmp_path: Path, dataset: Dataset
) -> None:
    bundle = bundles[0]
    motion = load_network(bundle.folder / "motion.safetensors", MotionConfig, MotionGenerator)
    motion.lip_map[0] = torch.linspace(-1, 1, 20)
    motion.lip_bias[0] = 0.25
    save_weights(
        tmp_path / "motion.safetensors",
        motion,
        motion.config,
        {"encoder": bundle.record.encoder},
        torch.float32,
    )
    manifest = dataset.manifest
    sets = {entry.kind: entry for entry in manifest.features.values()}
    data = DataRecord(
        dataset=str(dataset.storage.root), manifest=manifest.number, content=manifest.content,
        generation=manifest.current or "", clips=12, frames=372, speech=sets["speech"].digest,
        motion=sets["motion"].digest,
    )  # fmt: skip
    run = write_run(tmp_path / "mo", "motion", tmp_path / "motion.safetensors", bundle, data)
    made = make_bundle(
        tmp_path / "out", name="x", autoencoder=str(bundle.folder), motion=run, speech=str(bundle.folder)
    )
    values = []
    for shard in sets["motion"].shards:
        with dataset.aligned(shard, sets["speech"], sets["motion"]) as (_, speech, features):
            for heard, seen in zip(speech["speech"].to_pylist(), features["motion"].to_pylist(), strict=True):
                if heard is not None:
                    values.append(np.asarray(seen, np.float32))
    openings = np.concatenate(values) @ np.linspace(-1, 1, 20, dtype=np.float32) + 0.25
    assert made.record.mouth_limit == pytest.approx(float(np.quantile(openings, 0.4)), abs=1e-4)
    assert made.record.lineage["motion_manifest"] == str(manifest.number)


def test_a_run_in_a_bucket_is_as_good_as_one_on_disk(
    bundles: list[Bundle], tmp_path: Path, s3_config: S3Config
) -> None:
    folder = Path(runs_of(bundles[0], tmp_path)["motion"])
    uri = "s3://renders/bundling/mo"
    storage = open_storage(uri, s3_config)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.upload(path.relative_to(folder).as_posix(), path)
    other = str(bundles[0].folder)
    made = make_bundle(
        tmp_path / "out", name="x", autoencoder=other, motion=uri, speech=other, mouth_limit=1, s3=s3_config
    )
    assert made.record.lineage["motion_run"] == "mo"
