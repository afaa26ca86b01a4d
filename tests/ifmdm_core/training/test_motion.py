"""Stage 2 training: it learns, resumes exactly, and its losses count what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ifmdm_core.motion import MotionConfig, MotionGenerator
from ifmdm_core.motion.diffusion import alphas_cumprod
from ifmdm_core.training.loop import LoopState
from ifmdm_core.training.motion import MotionTraining, main, train_motion
from ifmdm_core.training.motion_batch import WindowDrawer
from ifmdm_core.training.motion_check import lip_check
from ifmdm_core.training.motion_data import (
    MotionClip,
    MotionSet,
    fit_lip_map,
    fit_statistics,
    lip_map_quality,
)
from ifmdm_core.training.motion_loss import MotionLossWeights, motion_loss
from ifmdm_core.training.motion_windows import MotionBatch
from ifmdm_core.weights import read_weights


def toy_motion_set(clips: int = 24, speech_dim: int = 6, seed: int = 0) -> MotionSet:
    """Clips of 30 and 60 frames; every sixth is a silence clip, every eighth held out."""
    rng = np.random.default_rng(seed)
    mix = 0.15 * rng.standard_normal((speech_dim, 20))
    motion, speech, records, first = [], [], [], 0
    for number in range(clips):
        count = 60 if number % 2 else 30
        heard = np.convolve(rng.standard_normal(count * speech_dim), np.ones(4) / 2, "same").reshape(
            count, -1
        )
        own = np.tanh(heard @ mix + 0.2 * rng.standard_normal(20) + 0.02 * rng.standard_normal((count, 20)))
        kind = "silence" if number % 6 == 5 else "news"
        records.append(
            MotionClip(f"clip{number}", "heldout" if number % 8 == 7 else "train", kind, first, count)
        )
        motion.append(own)
        speech.append(heard)
        first += count
    moves = np.concatenate(motion).astype(np.float32)
    lips = (moves[:, :6] / moves[:, :6].std(0)).astype(np.float32)
    data = MotionSet(
        records, moves, np.concatenate(speech).astype(np.float16), lips,
        np.zeros((6, 20), np.float32), np.zeros(6, np.float32), {"encoder": "toy"},
    )  # fmt: skip
    data.lip_map, data.lip_bias = fit_lip_map(moves, lips, data.of("train"))
    return data


def tiny(prediction: str = "sample", **changes: object) -> MotionConfig:
    values = {
        "speech_dim": 6, "width": 32, "depth": 2, "heads": 2, "prediction": prediction, "window": 40,
        "context": 8, "overlap": 3, "min_window": 16, "dropout": 0.0,
    }  # fmt: skip
    return MotionConfig(**(values | changes))


@pytest.fixture(scope="module")
def data() -> MotionSet:
    return toy_motion_set()


def test_the_set_comes_back_from_disk(data, tmp_path):
    data.save(tmp_path)
    back = MotionSet.load(tmp_path)
    assert back.clips == data.clips
    for name in ("motion", "speech", "lips", "lip_map", "lip_bias"):
        assert np.array_equal(getattr(back, name), getattr(data, name)), name
    assert min(lip_map_quality(back)) > 0.98


def test_statistics_describe_the_training_clips(data):
    model = MotionGenerator(tiny())
    fit_statistics(model, data)
    z = [
        model.to_z(torch.from_numpy(data.motion[c.rows]), torch.from_numpy(data.motion[c.first + k]))
        for c in data.of("train")
        for k in range(0, c.num_frames, 7)
    ]
    pooled = torch.cat(z)
    assert pooled.mean(0).abs().max() < 0.15
    assert (pooled.std(0) - 1).abs().max() < 0.25
    lengths, sigma = model.lengths, model.sigma
    assert torch.all(sigma[-1] >= 0.8 * sigma[0]), "longer windows vary more"
    assert len(lengths) == len(sigma)


def test_a_sample_depends_on_seed_step_and_index_only(data):
    model = MotionGenerator(tiny())
    fit_statistics(model, data)
    drawer = WindowDrawer(data, model, seed=1)
    small, large = drawer.draw(3, 4), drawer.draw(3, 8)
    n = small.z.shape[1]
    assert torch.equal(small.z, large.z[:4, :n] * small.given.valid[..., None])
    assert torch.equal(small.t, large.t[:4])
    assert not torch.equal(WindowDrawer(data, model, seed=2).draw(3, 4).t, small.t)
    assert not torch.equal(drawer.draw(4, 4).t, small.t)


def test_windows_statistics_and_dropping_are_as_stated(data):
    model = MotionGenerator(tiny())
    fit_statistics(model, data)
    drawer = WindowDrawer(data, model, seed=0)
    batches = [drawer.draw(step, 64) for step in range(12)]
    for batch in batches:
        given = batch.given
        lengths = given.valid.sum(1)
        assert lengths.min() >= 16
        assert lengths.max() <= 48
        assert set(given.context.sum(1).tolist()) <= {0, 8}
        new = given.valid & ~given.context
        for i in range(4):
            assert torch.allclose(given.mean[i], batch.z[i][new[i]].mean(0), atol=1e-4)
            assert torch.allclose(given.std[i], batch.z[i][new[i]].std(0, unbiased=False), atol=1e-4)
    share = {
        name: torch.cat([getattr(b.given, name).float() for b in batches]).mean().item()
        for name in ("has_speech", "has_mean", "has_std", "has_hint")
    }
    assert abs(share["has_speech"] - 0.81) < 0.06
    assert abs(share["has_mean"] - 0.81) < 0.06
    assert abs(share["has_hint"] - 0.9) < 0.05
    context = torch.cat([b.given.context.any(1).float() for b in batches]).mean()
    assert abs(context - 0.5) < 0.08


def losses(prediction: str, data: MotionSet, change=None) -> dict[str, float]:
    torch.manual_seed(0)
    model = MotionGenerator(tiny(prediction)).eval()
    scales = fit_statistics(model, data).scales
    batch: MotionBatch = WindowDrawer(data, model, seed=0).draw(0, 8)
    if change is not None:
        batch = change(batch)
    values = motion_loss(model, batch, alphas_cumprod(model.config), scales, MotionLossWeights())
    return {name: float(value.detach()) for name, value in values.items()}


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
def test_padding_and_context_do_not_count(data, prediction):
    def spoil(batch: MotionBatch) -> MotionBatch:
        outside = ~batch.given.valid[..., None]
        return replace(
            batch, z=torch.where(outside, 9.0, batch.z), noise=torch.where(outside, 9.0, batch.noise)
        )

    assert losses(prediction, data) == pytest.approx(losses(prediction, data, spoil), rel=1e-5)


def test_an_untrained_network_scores_the_variance(data):
    """It predicts zero, so every normalised term is about the variance it is divided by."""
    values = losses("sample", data)
    assert 0.5 < values["base"] < 2.0
    assert 0.5 < values["lips"] < 4.0
    assert 0.5 < values["lip_velocity"] < 4.0


def test_loss_falls_and_lips_follow_speech(data):
    training = MotionTraining(data, tiny(), batch=16, lr=4e-3)
    state, history = LoopState(), []
    for step in range(120):
        state.step = step
        history.append({name: float(value.detach()) for name, value in training.step(state).items()})
    first = np.mean([h["loss"] for h in history[:15]])
    last = np.mean([h["loss"] for h in history[-15:]])
    assert last < 0.7 * first
    check = lip_check(training.model.eval(), data, frames=30)
    assert check.r > 0.4
    assert check.r > check.r_shuffled + 0.3


def test_resume_is_exact_and_the_result_is_a_weights_file(data, tmp_path):
    data.save(tmp_path / "whole" / "data")
    data.save(tmp_path / "parts" / "data")
    train_motion(tmp_path / "whole", tiny(dropout=0.1), max_steps=5, batch=4)
    for _ in range(5):  # calls of a few milliseconds: one step each, or two on a fast machine
        path = train_motion(tmp_path / "parts", tiny(dropout=0.1), max_steps=5, call_minutes=1e-4, batch=4)
    whole = read_weights(tmp_path / "whole" / "motion.safetensors")
    parts = read_weights(path)
    assert all(torch.equal(whole[0][name], parts[0][name]) for name in whole[0])
    assert whole[2] == {"encoder": "toy", "motion_steps": "5"}
    assert MotionConfig(**whole[1]) == tiny(dropout=0.1)


def test_the_paper_preset_takes_a_step(data):
    config = MotionConfig.preset("paper", 6)
    training = MotionTraining(data, config, batch=1)
    before = training.model.motion_out.weight.detach().clone()
    values = training.step(LoopState())
    assert torch.isfinite(values["loss"])
    assert not torch.equal(training.model.motion_out.weight, before)


def test_command(data, tmp_path, capsys):
    data.save(tmp_path / "data")
    main(["--work", str(tmp_path), "--minutes", "0.02", "--batch", "2"])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "motion.safetensors")
    assert (tmp_path / "motion.safetensors").is_file()
