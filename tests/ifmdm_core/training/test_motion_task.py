"""Stage 2 as a task: it learns, resumes exactly, is the same on two processes, and its samples are as stated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.motion import MotionConfig, MotionGenerator
from ifmdm_core.training.checkpoint import checkpoints, load_state
from ifmdm_core.training.loop import LoopState, sample_rng
from ifmdm_core.training.motion_look import HeldOutClips
from ifmdm_core.training.motion_statistics import BUFFERS, MotionStatistics, fit_motion_statistics
from ifmdm_core.training.motion_task import MotionTask, MotionTaskConfig, new_motion_generator
from ifmdm_core.training.motion_windows import Augmentation, Quiet, WindowMaker
from ifmdm_core.training.task import Share
from ifmdm_core.weights import load_network, read_weights
from tests.processes import together
from tests.toy_clips import toy_clips, toy_config, toy_statistics, toy_task, train_toy, train_toy_twice


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(checkpoints(folder)[-1])["modules"]["motion"]


def share_of(numbers: list[int], step: int = 5, size: int = 8) -> Share:
    clips = toy_clips(size)
    return Share(step, size, [(k, clips[k]) for k in numbers], [clips[k].clip_id for k in numbers], {})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps of 8 clips by one process."""
    folder = tmp_path_factory.mktemp("alone")
    train_toy(folder, 10)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two processes in `whole`, and in `part` until step 4."""
    folder = tmp_path_factory.mktemp("two")
    together(train_toy_twice, 2, folder, folder, 10, 4)
    return folder


def test_two_processes_take_the_steps_of_one(alone: Path, two: Path) -> None:
    both = list(zip(curve(alone), curve(two / "whole"), strict=True))
    assert [ours["step"] for ours, _ in both] == list(range(1, 11))
    for ours, theirs in both:
        for name in ("loss", "base", "velocity", "lips", "lip_velocity", "grad_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), (ours["step"], name)
    assert curve(alone)[0]["loss"] != pytest.approx(curve(alone)[1]["loss"], rel=1e-2)
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(two / "whole")[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_a_resumed_run_ends_in_the_same_weights_to_the_bit(alone: Path, tmp_path: Path) -> None:
    assert train_toy(tmp_path, 10, stop_at=4) == 4
    assert [line["step"] for line in curve(tmp_path)] == [1, 2, 3, 4]
    assert train_toy(tmp_path, 10) == 10
    assert [line["step"] for line in curve(tmp_path)] == list(range(1, 11))
    assert [line["loss"] for line in curve(tmp_path)] == [line["loss"] for line in curve(alone)]
    for name, value in weights(alone).items():
        assert torch.equal(weights(tmp_path)[name], value), name


def test_one_process_goes_on_where_two_stopped(alone: Path, two: Path) -> None:
    assert len(curve(two / "part")) == 4
    train_toy(two / "part", 10)
    for ours, theirs in zip(curve(alone), curve(two / "part"), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)


def test_parts_make_the_batch(alone: Path, tmp_path: Path) -> None:
    train_toy(tmp_path, 10, 4, accumulate=3)
    for ours, theirs in zip(curve(alone), curve(tmp_path), strict=False):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)


def test_it_learns_and_lips_follow_the_speech(tmp_path: Path) -> None:
    train_toy(tmp_path, 160, batch=16, checkpoint_steps=200, validate_steps=80, held_out=True)
    losses = [line["loss"] for line in curve(tmp_path)]
    assert np.mean(losses[-15:]) < 0.7 * np.mean(losses[:15])
    looks = [
        json.loads((tmp_path / "samples" / f"step-{step:08d}" / "metrics.json").read_text())
        for step in (80, 160)
    ]
    assert looks[1]["heldout_loss"] < looks[0]["heldout_loss"]
    assert looks[1]["lip_r"] > 0.4
    assert looks[1]["lip_r"] > looks[1]["lip_r_shuffled"] + 0.3
    table = (tmp_path / "samples" / "step-00000160" / "lips.csv").read_text().splitlines()
    assert table[0] == "clip_id,frames,r,r_shuffled"
    assert len(table) == 7


def test_a_sample_is_the_same_in_any_share() -> None:
    task = toy_task(toy_clips(8))
    whole = task.collate(share_of(list(range(8))))[0]
    for number in range(8):
        alone = task.collate(share_of([number]))[0]
        length = int(alone.given.valid.sum())
        for name in ("z", "noise"):
            torch.testing.assert_close(
                getattr(whole, name)[number, :length], getattr(alone, name)[0, :length]
            )
        assert torch.equal(whole.given.speech[number, :length], alone.given.speech[0, :length])
        assert whole.kept is not None
        assert alone.kept is not None
        assert torch.equal(whole.kept[number], alone.kept[0])
        assert whole.t[number] == alone.t[0]
    other = task.collate(share_of([0], step=6))[0]
    assert not torch.equal(other.noise[0, :16], whole.noise[0, :16])


def test_dropout_takes_channels_of_a_sample_and_nothing_at_rest() -> None:
    clips = toy_clips(8)
    task = toy_task(clips, dropout=0.5)
    with torch.no_grad():  # an untrained network gives zero whatever it drops
        for parameter in task.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = task.collate(share_of(list(range(8))))[0]
    assert batch.kept is not None
    assert 0.4 < batch.kept.float().mean() < 0.6
    task.model.train()
    first, again = (task.model(batch.z, batch.t, batch.given, batch.dropout()) for _ in range(2))
    assert torch.equal(first, again), "the network added dropout of its own"
    task.model.eval()
    rest = task.model(batch.z, batch.t, batch.given)
    assert not torch.allclose(first, rest)
    everything = torch.ones_like(batch.kept).float()
    torch.testing.assert_close(task.model(batch.z, batch.t, batch.given, everything), rest)


def test_silence_shuts_the_lips_while_it_lasts_and_the_sound_is_quiet() -> None:
    clip = toy_clips(1)[0]
    statistics = toy_statistics([clip], toy_config())
    lip_map, sounds = statistics.tensors["lip_map"].numpy(), statistics.quiet
    assert sounds is not None
    quiet = Quiet(np.full_like(sounds, 7), lip_map, statistics.completion)
    closed = clip.motion[int((clip.motion @ lip_map[0]).argmin())]
    gap = float(closed @ lip_map[0])
    for seed in range(20):
        motion, speech = quiet.insert(
            np.random.default_rng(seed), clip.motion, clip.speech.astype(np.float32), closed, 200
        )
        assert motion.shape == (len(speech), 20)
        still = (speech == 7).all(1)
        assert 8 <= still.sum() == len(motion) - len(clip.motion)
        at = np.flatnonzero(still)
        middle = motion[at[len(at) // 2]]
        assert float(middle @ lip_map[0]) == pytest.approx(gap, abs=0.15)
        np.testing.assert_array_equal(speech[~still], clip.speech.astype(np.float32))
        np.testing.assert_array_equal(motion[~still], clip.motion)


def test_silence_comes_in_its_share_of_samples() -> None:
    config = toy_config()
    clips = toy_clips(8)
    model = new_motion_generator(config, 0)
    marked = toy_statistics(clips, config, quiet=False).with_quiet(np.full((3, 60, 6), 50, np.float16))
    plain = Augmentation(silence=0.5, speech_noise=0.0)
    task = MotionTask(model, marked, MotionTaskConfig(augmentation=plain))
    silent = [
        bool((task.collate(share_of(list(range(8)), step))[0].given.speech[k] == 50).all(-1).any())
        for step in range(12)
        for k in range(8)
    ]
    assert 0.3 < np.mean(silent) < 0.65
    none = MotionTask(model, toy_statistics(clips, config, quiet=False), MotionTaskConfig(augmentation=plain))
    assert not (none.collate(share_of(list(range(8))))[0].given.speech == 50).any()


def test_windows_fit_the_clip_and_the_model() -> None:
    task = toy_task(toy_clips(8))
    maker = WindowMaker(task.model, Augmentation())
    lengths = set()
    for seed in range(60):
        clip = toy_clips(8)[seed % 8]
        rng = sample_rng(seed, 0, 0)
        row = maker.draw(rng, clip.motion, clip.speech, *maker.lengths(seed, 0))
        assert len(row["z"]) == len(row["speech"]) == len(row["noise"]) <= min(len(clip.motion), 48)
        lengths.add(len(row["z"]))
    assert min(lengths) >= 16
    assert max(lengths) > 31


def test_statistics_come_back_from_disk_and_unfit_ones_are_refused(tmp_path: Path) -> None:
    statistics = toy_statistics(toy_clips(8), toy_config())
    statistics.save(tmp_path / "statistics.safetensors")
    back = MotionStatistics.load(tmp_path / "statistics.safetensors")
    assert back.scales == statistics.scales
    assert all(torch.equal(back.tensors[name], value) for name, value in statistics.tensors.items())
    model = MotionGenerator(toy_config())
    back.fill(model)
    assert all(torch.equal(getattr(model, name), back.tensors[name]) for name in BUFFERS)
    with pytest.raises(BadInput, match="speech_mean of the data has shape"):
        back.fill(MotionGenerator(toy_config(speech_dim=9)))
    with pytest.raises(NotFound, match="no statistics"):
        MotionStatistics.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match="no safetensors"):
        MotionStatistics.load(tmp_path / "bad.safetensors")
    with pytest.raises(BadInput, match="no clips"):
        toy_statistics([], toy_config())


def test_what_does_not_fit_is_refused() -> None:
    task = toy_task(toy_clips(8), accumulate=4)
    with pytest.raises(BadInput, match="3 samples of a step, accumulate asks for 4"):
        task.collate(share_of([0, 1, 2]))
    config = toy_config(speech_dim=9)
    wider = [replace(clip, speech=np.zeros((len(clip.motion), 9), np.float16)) for clip in toy_clips(8)]
    sample = [(clip.motion, clip.speech) for clip in wider]
    statistics = fit_motion_statistics(
        sample, config, np.eye(6, 20, dtype=np.float32), np.zeros(6, np.float32)
    )
    other = MotionTask(new_motion_generator(config, 0), statistics)
    with pytest.raises(BadInput, match="clip clip-0-000 has 6 speech features a frame, the model hears 9"):
        other.collate(share_of([0]))


def test_the_result_is_a_weights_file_that_names_its_encoder(tmp_path: Path) -> None:
    task = toy_task(toy_clips(8))
    with pytest.raises(BadInput, match="lacks 'encoder'"):
        task.export(tmp_path / "motion.safetensors", {"speech": "b"})
    task.export(tmp_path / "motion.safetensors", {"encoder": "a", "speech": "b"})
    back = load_network(tmp_path / "motion.safetensors", MotionConfig, MotionGenerator)
    assert torch.equal(back.lip_map, task.model.lip_map)
    assert read_weights(tmp_path / "motion.safetensors")[2] == {"encoder": "a", "speech": "b"}


def test_bfloat16_takes_a_step_close_to_float32() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        task = toy_task(toy_clips(8))
        settings = task.config.optimiser.model_copy(update={"precision": precision})
        task.config = task.config.model_copy(update={"optimiser": settings})
        batch = task.collate(share_of(list(range(8))))
        losses.append([float(task.step(LoopState(step), batch)["loss"]) for step in range(4)])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_without_held_out_clips_nothing_is_looked_at(tmp_path: Path) -> None:
    task = toy_task(toy_clips(8))
    task.held_out = None
    assert task.validate(1, tmp_path).metrics == {}
    task.held_out = HeldOutClips(toy_clips(1, seed=1))
    assert set(task.validate(1, tmp_path).metrics) == {
        f"heldout_{name}" for name in ("loss", "base", "velocity", "lips", "lip_velocity")
    }
