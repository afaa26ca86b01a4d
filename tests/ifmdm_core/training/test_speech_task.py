"""The speech encoder as a task: it learns to hear lips, resumes exactly, and is the same on two processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ifmdm_core.errors import BadInput, NotFound, Unsupported
from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.training.checkpoint import checkpoints, load_state
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.speech_crops import SpeechBatch
from ifmdm_core.training.speech_statistics import SpeechStatistics
from ifmdm_core.training.speech_task import SpeechTask, new_speech_model, speech_model_from
from ifmdm_core.training.statistics_file import save_statistics
from ifmdm_core.training.task import Share
from tests.processes import together
from tests.toy_speech import (
    SMALL,
    speech_task,
    spoken_clips,
    toy_statistics,
    train_speech_toy,
    train_speech_twice,
)


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(checkpoints(folder)[-1])["modules"]["speech"]


def share_of(numbers: list[int], step: int = 5) -> Share:
    clips = spoken_clips(8)
    return Share(step, 8, [(k, clips[k]) for k in numbers], [clips[k].clip_id for k in numbers], {})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train_speech_toy(folder, 6)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two processes in `whole`, and in `part` until step 3."""
    folder = tmp_path_factory.mktemp("two")
    together(train_speech_twice, 2, folder, folder, 6, 3)
    return folder


def test_two_processes_take_the_steps_of_one(alone: Path, two: Path) -> None:
    for ours, theirs in zip(curve(alone), curve(two / "whole"), strict=True):
        for name in ("loss", "lips", "speed", "contrast", "clusters", "visemes", "tract", "grad_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=2e-3, abs=1e-4), (ours["step"], name)


def test_one_process_goes_on_where_two_stopped(alone: Path, two: Path) -> None:
    assert len(curve(two / "part")) == 3
    train_speech_toy(two / "part", 6)
    for ours, theirs in zip(curve(alone), curve(two / "part"), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=2e-3)


def test_a_resumed_run_ends_in_the_same_weights_to_the_bit(alone: Path, tmp_path: Path) -> None:
    assert train_speech_toy(tmp_path, 6, 3) == 3
    assert train_speech_toy(tmp_path, 6) == 6
    for name, value in weights(alone).items():
        assert torch.equal(weights(tmp_path)[name], value), name


def test_parts_make_the_batch(alone: Path, tmp_path: Path) -> None:
    train_speech_toy(tmp_path, 6, 3, accumulate=2)
    for ours, theirs in zip(curve(alone), curve(tmp_path), strict=False):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=2e-3)


def test_it_learns_to_hear_lips(tmp_path: Path) -> None:
    train_speech_toy(tmp_path, 120, batch=8, checkpoint_steps=200, validate_steps=60)
    losses = [line["loss"] for line in curve(tmp_path)]
    assert np.mean(losses[-15:]) < 0.85 * np.mean(losses[:15])
    look = tmp_path / "samples" / "step-00000120"
    metrics = json.loads((look / "metrics.json").read_text())
    assert metrics["lip_r"] > 0.4
    assert metrics["lip_r"] > metrics["lip_r_shuffled"] + 0.3
    assert len((look / "lips.csv").read_text().splitlines()) == 7


def test_a_sample_is_the_same_in_any_share() -> None:
    task = speech_task()
    whole = task.collate(share_of(list(range(8))))[0]
    for number in (0, 3, 7):
        alone = task.collate(share_of([number]))[0]
        for name in SpeechBatch.__dataclass_fields__:
            assert torch.equal(getattr(whole, name)[number], getattr(alone, name)[0]), name
    assert not torch.equal(task.collate(share_of([0], step=6))[0].audio, whole.audio[:1])


def test_crops_hold_lips_or_synthetic_speech_and_say_where() -> None:
    task = speech_task(frames=40, speed=0.0)
    deviation = toy_statistics().tensors["deviation"].numpy()
    kinds = []
    for step in range(6):
        batch = task.collate(share_of(list(range(8)), step))[0]
        for row, clip in enumerate(spoken_clips(8)):
            spoken = batch.spoken[row].bool()
            synthetic = batch.synthetic[row].bool()
            kinds.append(bool(synthetic.any()))
            assert spoken.any() != synthetic.any()
            if spoken.any():
                assert int(spoken.sum()) == min(40, len(clip.lips))
                opening = batch.lips[row][spoken][:, 0].numpy() * deviation[0]
                starts = [
                    k
                    for k in range(len(clip.lips) - len(opening) + 1)
                    if np.allclose(clip.lips[k : k + len(opening), 0], opening, atol=1e-5)
                ]
                assert len(starts) == 1, "lips are a run of the clip"
                end = int(spoken.sum()) * 640
                assert batch.audio[row, :end].abs().mean() > 0.1
                assert not batch.audio[row, end:].any()
            else:
                assert batch.mouth[row, :, 0].max() <= 11
                assert not batch.lips[row].any()
    assert 0.05 < np.mean(kinds) < 0.5


def test_lips_that_are_missing_do_not_count() -> None:
    task = speech_task(frames=40)
    batch = task.collate(share_of(list(range(8))))[0]
    assert (batch.spoken.sum(1) > 0).any()
    assert (batch.spoken[batch.spoken.any(1)] == 0).any(), "no clip is shorter than the crop"
    task.model.eval()

    def losses(lips: torch.Tensor) -> dict[str, float]:
        changed = SpeechBatch(**{**vars(batch), "lips": lips})
        return {k: float(v.detach()) for k, v in task.objective((changed, batch.counts())).items()}

    spoilt = torch.where(batch.spoken[..., None] == 0, 9.0, batch.lips)
    assert losses(spoilt) == pytest.approx(losses(batch.lips), rel=1e-5)


def test_dropout_is_the_sample_s_own() -> None:
    task = speech_task(dropout=0.5)
    batch = task.collate(share_of(list(range(8))))[0]
    assert batch.kept.shape[2] == 32
    assert 0.4 < batch.kept.float().mean() < 0.6
    task.averaged.train()
    first, again = (float(task.objective((batch, batch.counts()))["lips"].detach()) for _ in range(2))
    assert first == again
    everything = SpeechBatch(**{**vars(batch), "kept": torch.ones_like(batch.kept)})
    assert float(task.objective((everything, batch.counts()))["lips"].detach()) != first


def test_the_result_is_an_encoder_and_training_goes_on_from_it(tmp_path: Path) -> None:
    task = speech_task()
    task.export(tmp_path / "speech", {"dataset_content": "abc"})
    encoder = SpeechEncoder.load(tmp_path / "speech")
    assert (encoder.dim, encoder.stride, encoder.normalised) == (32, 320, True)
    assert json.loads((tmp_path / "speech" / "speech.json").read_text())["lineage"] == {
        "dataset_content": "abc"
    }
    heard = torch.from_numpy(spoken_clips(1)[0].samples)[None]
    task.model.eval()
    again = speech_model_from(tmp_path / "speech")
    assert torch.equal(again(heard).last_hidden_state, task.model(heard).last_hidden_state)
    resumed = SpeechTask(again, toy_statistics())
    assert all(p.requires_grad for p in resumed.averaged.parameters())


def test_encoders_with_other_tokens_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(Unsupported, match="tokens of 400 samples every 320"):
        speech_model_from(tiny_bundle / "speech")


def test_statistics_come_back_from_disk_and_unfit_clips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    toy_statistics().save(path)
    back = SpeechStatistics.load(path)
    assert all(torch.equal(back.tensors[k], v) for k, v in toy_statistics().tensors.items())
    with pytest.raises(NotFound, match="no statistics"):
        SpeechStatistics.load(tmp_path / "none")
    save_statistics(path, {name: v for name, v in back.tensors.items() if name not in ("babble", "speeds")})
    with pytest.raises(BadInput, match="lacks babble, speeds"):
        SpeechStatistics.load(path)
    with pytest.raises(BadInput, match="no clips"):
        SpeechStatistics.fit([])
    task = SpeechTask(new_speech_model(SMALL, 0), back)
    clip = spoken_clips(1, lips=3)[0]
    with pytest.raises(BadInput, match="clip spoken-0-000 has 3 lip measurements a frame, the statistics 2"):
        task.collate(Share(0, 1, [(0, clip)], [clip.clip_id], {}))


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(int(sample_rng(0, 0, 0).integers(100)))
    first = new_speech_model(SMALL, 1).state_dict()
    torch.manual_seed(5)
    again, other = new_speech_model(SMALL, 1).state_dict(), new_speech_model(SMALL, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
