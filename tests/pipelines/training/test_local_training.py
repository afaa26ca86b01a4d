"""Whole trainings in this process: to a result, stopped and resumed, refused before they begin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import BadInput, Busy, Cancelled, Conflict, NotFound
from ifmdm_core.storage import S3Config
from ifmdm_core.training.loop import Diverged
from ifmdm_core.weights import read_weights
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import commit
from pipelines.features.encoders import EncoderIdentity
from pipelines.tracking.spool import Spool
from pipelines.training.attempts import Attempt
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.config import DataConfig
from pipelines.training.data import open_reader
from pipelines.training.driver import Launch
from pipelines.training.launch import TrainingResult, preflight, read_config, resume, train
from pipelines.training.listing import runs, sync
from pipelines.training.plan import plan
from pipelines.training.run import RunFolder
from pipelines.training.stages import stage_named
from tests.pipelines.training.conftest import add_features

HERE = Launch(local=True)


def run_motion(config: dict[str, Any], name: str = "one", *overrides: str) -> TrainingResult:
    return train("motion", config, overrides=overrides, name=name, launch=HERE, quiet=True)


def steps_told(run: RunFolder) -> list[int]:
    return [entry.step for entry in Spool(run.storage).entries() if entry.kind == "step"]


def test_a_training_leaves_weights_figures_and_checkpoints(
    motion_config: dict[str, Any], tiny_bundle: Path
) -> None:
    result = run_motion(motion_config)
    run = RunFolder.at(result.run)
    _, config, lineage = read_weights(result.weights)
    assert config["width"] == 16
    assert lineage["encoder"] == load_bundle(tiny_bundle).record.encoder
    assert lineage["motion_steps"] == "12"
    assert {"heldout_loss", "lip_r"} <= set(result.record.metrics)
    assert steps_told(run) == list(range(1, 13))
    assert Checkpoints(run.storage).steps() == [8, 12]
    record = run.record()
    assert record.git.commit == subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()  # fmt: skip
    assert record.data.clips == 16
    assert record.data.held_out == 8
    (listed,) = runs(motion_config["runs"])
    assert (listed.state, listed.step, listed.name) == ("finished", 12, "one")
    report = sync(result.run)
    assert (report.pending, report.problem) == (0, "")


def test_stopped_and_resumed_it_ends_with_the_bytes_of_an_unbroken_one(motion_config: dict[str, Any]) -> None:
    whole = run_motion(motion_config)
    code = (
        "import sys, json\n"
        "from pipelines.training.driver import Launch\n"
        "from pipelines.training.launch import train\n"
        "train('motion', json.loads(sys.argv[1]), name='two', launch=Launch(local=True), quiet=True)\n"
    )
    slow = {**motion_config, "fit": {**motion_config["fit"], "steps": 12, "checkpoint_steps": 2}}
    child = subprocess.Popen([sys.executable, "-c", code, json.dumps(slow)], stderr=subprocess.DEVNULL)
    second = Path(motion_config["runs"]) / "two"
    end = time.monotonic() + 120
    while not (second / "checkpoints/step-00000002/checkpoint.json").exists() and time.monotonic() < end:
        time.sleep(0.005)
    child.kill()
    child.wait()
    again = resume(str(second), launch=Launch(local=True, force=True), quiet=True)
    assert again.record.sha256 == whole.record.sha256
    assert steps_told(RunFolder.at(str(second))) == list(range(1, 13))
    # And what is finished stays as it is.
    assert resume(str(second), launch=HERE, quiet=True).record == again.record


def test_a_wish_to_stop_leaves_a_checkpoint_to_go_on_from(motion_config: dict[str, Any]) -> None:
    run = RunFolder.at(f"{motion_config['runs']}/one")

    def stop_soon() -> None:
        while not (Path(motion_config["runs"]) / "one/attempts/00000001/claim.json").exists():
            time.sleep(0.01)
        Attempt(run.storage, 1).ask_to_stop()

    threading.Thread(target=stop_soon, daemon=True).start()
    with pytest.raises(Cancelled, match="ifmdm train resume"):
        run_motion(motion_config, "one", "fit.steps=100000", "fit.validate_steps=null")
    (listed,) = runs(motion_config["runs"])
    assert listed.state == "stopped"
    assert 0 < listed.step < 100_000


def test_divergence_is_told_with_the_clips_and_not_resumed_over(
    motion_config: dict[str, Any], tiny_set: Path
) -> None:
    with pytest.raises(Diverged, match=r"at step \d+") as caught:
        run_motion(
            motion_config, "one", "optimiser.lr=1e30", "optimiser.clip_norm=1e30", "optimiser.warmup=0"
        )
    run = RunFolder.at(f"{motion_config['runs']}/one")
    known = set()
    dataset = Dataset.open(tiny_set)
    for shard in dataset.generation()[1].shards:
        with dataset.clips(shard) as table:
            known |= set(table["clip_id"].to_pylist())
    assert any(clip in str(caught.value) for clip in known)
    assert runs(motion_config["runs"])[0].state == "failed"
    assert str(Attempt.last(run.storage).fault()) == str(caught.value)  # type: ignore[union-attr]


def test_a_second_driver_is_refused(motion_config: dict[str, Any]) -> None:
    with pytest.raises(Cancelled):
        _stopped_at_once(motion_config)
    run = RunFolder.at(f"{motion_config['runs']}/one")
    Attempt.claim(run)
    with pytest.raises(Busy, match="is being trained by"):
        resume(run.uri, launch=HERE, quiet=True)


def _stopped_at_once(config: dict[str, Any]) -> None:
    Path(config["runs"], "one", "attempts", "00000001").mkdir(parents=True)
    Path(config["runs"], "one", "attempts", "00000001", "stop").touch()
    run_motion(config, "one", "fit.steps=100000", "fit.validate_steps=null")


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("fit.step=3", BadInput, "unknown setting 'fit.step'; did you mean 'steps'"),
        ("data.batch=0", BadInput, "data.batch is 0; should be greater than 0"),
        ("optimiser.precision=fp8", BadInput, "optimiser.precision is 'fp8'"),
        ("optimiser.accumulate=99", BadInput, "data.batch 8 is less than 99"),
        ("model.preset=huge", BadInput, "model.preset 'huge' must be one of: demo, paper"),
        ("model.widht=3", BadInput, "unknown setting 'model.widht'; did you mean 'width'"),
        ("model.speech_dim=17", BadInput, "model.speech_dim is 17, and speech/.* has 16 .*set model.speech_dim=16"),
        ("data.dataset=/nowhere", NotFound, "data.dataset: /nowhere is no dataset"),
        ("data.split=test", NotFound, r"no clips of split 'test'; it has heldout \(8 clips\), .*train \(16 clips\)"),
        ("data.speech=abcdef", NotFound, "has no speech features abcdef; it has"),
        ("data.selection=good", NotFound, "has no selection 'good'"),
        ("reference=/nowhere", NotFound, "reference: there is nothing at '/nowhere'"),
        ("start.bundle=demo", Conflict, r"start.bundle demo was trained with model\.\w+ .*this motion training has"),
        ("reference=demo", Conflict, r"the motion encoder of demo is 4ab85b9d\w+, motion/\w+ was made by \w+"),
        ("stage=speech", BadInput, "stage is 'speech', and this is a training of motion"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_there_is_a_run(
    motion_config: dict[str, Any], override: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_motion(motion_config, "one", override)
    assert not Path(motion_config["runs"]).exists()


def test_features_that_lack_shards_are_refused(
    motion_config: dict[str, Any], tiny_set: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "set"
    subprocess.run(["cp", "-r", tiny_set, copied], check=True)
    dataset = Dataset.open(copied)
    ((name, features),) = [(n, f) for n, f in dataset.manifest.features.items() if f.kind == "motion"]
    fewer = features.model_copy(update={"shards": dict(list(features.shards.items())[1:])})
    commit(dataset.storage, lambda m: m.model_copy(update={"features": {**m.features, name: fewer}}))
    with pytest.raises(Conflict, match="lacks 1 of 4 shards"):
        run_motion({**motion_config, "data": {**motion_config["data"], "dataset": str(copied)}})


def test_a_run_reads_the_manifest_that_it_was_begun_with(
    motion_config: dict[str, Any], tiny_set: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "set"
    subprocess.run(["cp", "-r", tiny_set, copied], check=True)
    config = {**motion_config, "data": {**motion_config["data"], "dataset": str(copied)}}
    with pytest.raises(Cancelled):
        _stopped_at_once(config)
    begun = RunFolder.at(f"{config['runs']}/one").record().data
    other = EncoderIdentity("motion", "0" * 64, 20, {}, {})
    add_features(Dataset.open(copied), other, created="2027-01-01T00:00:00Z")
    assert Dataset.open(copied).features("motion").encoder == "0" * 64
    assert (
        open_reader(begun, DataConfig(dataset=str(copied), batch=1)).features("motion").digest == begun.motion
    )
    for path in (copied / "manifests").iterdir():
        if int(path.stem) == begun.manifest:
            os.unlink(path)
    with pytest.raises(NotFound, match=f"has no manifest {begun.manifest} any more"):
        resume(f"{config['runs']}/one", launch=HERE, quiet=True)


def test_weights_continue_in_a_new_run(motion_config: dict[str, Any]) -> None:
    first = run_motion(motion_config)
    second = run_motion(motion_config, "two", f"start.weights={first.weights}")
    assert RunFolder.at(second.run).record().parents == {"motion": first.record.sha256["motion.safetensors"]}
    assert second.record.metrics["heldout_loss"] < first.record.metrics["heldout_loss"]


def test_a_damaged_start_file_is_refused(motion_config: dict[str, Any]) -> None:
    with pytest.raises(Cancelled):
        _stopped_at_once(motion_config)
    folder = Path(motion_config["runs"]) / "one"
    (file,) = (folder / "start").glob("statistics-*")
    file.write_bytes(b"other")
    with pytest.raises(Conflict, match=r"has sha256 \w{64}, the run was started with \w{64}"):
        resume(str(folder), launch=HERE, quiet=True)


def test_a_run_lies_in_a_bucket_as_in_a_folder(
    motion_config: dict[str, Any], s3_config: S3Config, tmp_path: Path
) -> None:
    config = {**motion_config, "runs": f"s3://renders/{tmp_path.name}"}
    in_folder = run_motion(motion_config)
    result = train("motion", config, name="one", launch=HERE, s3=s3_config, quiet=True)
    assert result.record.sha256 == in_folder.record.sha256
    run = RunFolder.at(result.run, s3_config)
    assert steps_told(run) == list(range(1, 13))
    run.storage.delete("result/result.json")
    run.storage.delete(
        "checkpoints/step-00000012/checkpoint.json"
    )  # as if it had been lost before it was whole
    assert [state.step for state in runs(config["runs"], s3=s3_config)] == [8]
    again = resume(result.run, launch=HERE, s3=s3_config, quiet=True)
    assert again.record.sha256 == result.record.sha256
    assert sync(result.run, s3=s3_config).pending == 0


def test_a_dry_run_says_what_would_be_and_writes_nothing(motion_config: dict[str, Any]) -> None:
    stage = stage_named("motion")
    made = plan(preflight(stage, read_config(stage, motion_config)))
    assert not Path(motion_config["runs"]).exists()
    assert made.epochs == 12 * 8 / 16
    assert made.checkpoints == 3
    assert made.step_s is not None
    text = str(made)
    assert "16 clips, 652 frames" in text
    assert f"motion {made.parameters['motion']:,}" in text
    result = run_motion(motion_config)
    run = RunFolder.at(result.run)
    newest = Checkpoints(run.storage).newest()
    assert newest is not None
    written = sum(newest.record.sizes.values())
    assert (
        made.checkpoint_bytes <= written <= 1.3 * made.checkpoint_bytes + 20_000
    )  # headers of many small tensors
