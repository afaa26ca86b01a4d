"""The configurations that are shipped, and what is refused in any."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, NotFound
from pipelines.training.launch import read_config
from pipelines.training.stages import STAGES, stage_named

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["demo", "paper"])
def test_shipped_configurations_are_valid(stage: str, kind: str) -> None:
    config = read_config(stage_named(stage), CONFIGS / kind / f"{stage}.yaml")
    assert config.fit.steps > 0
    # What a run keeps is read back as it was.
    again = type(config).model_validate(config.dumped())
    assert again == config
    if kind == "paper" and stage != "speech":
        # Section 4.1: four GPUs for stage 1, one for stage 2.
        assert (config.workers.count, config.workers.gpus) == ({"autoencoder": 4, "motion": 1}[stage], 1)
        preset = "paper"
        assert config.model == type(config.model).preset(preset)  # type: ignore[attr-defined]
    if kind == "demo":
        assert config.workers.most == 2
        assert config.workers.gpus == 0


def test_a_preset_is_written_out_and_fields_differ_from_it() -> None:
    stage = stage_named("motion")
    values = {
        "data": {"dataset": "d", "batch": 4},
        "fit": {"steps": 1},
        "model": {"preset": "paper", "depth": 3},
    }
    config = read_config(stage, values)
    assert (config.model.width, config.model.depth) == (512, 3)  # type: ignore[attr-defined]
    assert "preset" not in config.dumped()["model"]
    bare = read_config(stage, {**values, "model": config.dumped()["model"]})
    assert bare.model == config.model  # type: ignore[attr-defined]


def test_paths_are_made_absolute_and_buckets_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    values = {"data": {"dataset": "sets/a", "batch": 4}, "fit": {"steps": 1}}
    config = read_config(stage_named("motion"), values)
    assert config.data.dataset == str(tmp_path / "sets/a")
    assert config.runs == str(tmp_path / "runs")
    assert config.tracking.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    config = read_config(
        stage_named("motion"), values, ["runs=s3://bucket/runs/", "data.dataset=s3://bucket/set"]
    )
    assert (config.runs, config.data.dataset, config.tracking.uri) == (
        "s3://bucket/runs",
        "s3://bucket/set",
        None,
    )


@pytest.mark.parametrize(
    ("stage", "override", "error", "message"),
    [
        ("motion", "optimizer.lr=1", BadInput, "unknown setting 'optimizer'; did you mean 'optimiser'"),
        ("motion", "workers.count=[3, 2]", BadInput, r"count \[3, 2\] must be \[least, most\]"),
        ("motion", "workers.count=0", BadInput, "workers.count is 0"),
        ("motion", "checkpoints.keep_last=0", BadInput, "checkpoints.keep_last is 0"),
        ("motion", "losses.lips=much", BadInput, "losses.lips is 'much'"),
        ("autoencoder", "train=generator", BadInput, "train: generator holds the motion encoder still"),
        ("autoencoder", "train=encoder", BadInput, "train is 'encoder'; should be 'all' or 'generator'"),
        ("autoencoder", "model.size=100", BadInput, "model"),
        ("autoencoder", "start.weights=/nowhere", NotFound, "start.weights: there is nothing at '/nowhere'"),
        ("autoencoder", "perceptual=/nowhere", NotFound, "perceptual: there is nothing at '/nowhere'"),
        ("speech", "model.hidden=100", BadInput, "model.hidden is 100; should be a multiple of 16"),
        ("speech", "data.batchsize=3", BadInput, "unknown setting 'data.batchsize'; did you mean 'batch'"),
    ],
)
def test_bad_settings_are_named(stage: str, override: str, error: type[Exception], message: str) -> None:
    values = {"data": {"dataset": "d", "batch": 8}, "fit": {"steps": 1}}
    with pytest.raises(error, match=message):
        read_config(stage_named(stage), values, [override])


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(BadInput, match="no stage 'motoin' to train; did you mean 'motion'"):
        stage_named("motoin")
