"""Sync curves, S and the towers on signals whose offset is known."""

import numpy as np
import pytest
import torch
from torch import nn

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.metrics.bootstrap import Interval
from ifmdm_core.metrics.sync import mel_frames, relative_score, speech_windows, sync_curve
from ifmdm_core.metrics.sync_model import SyncScorer

DIM = 32


class CodeScorer(nn.Module):
    """Reads a number that both streams carry per frame as a random unit vector: sync is exact by construction."""

    sees = "points"

    def forward(self, mel, mouths):
        table = nn.functional.normalize(
            torch.randn(500, DIM, generator=torch.Generator().manual_seed(1)), dim=1
        )
        heard = mel[:, 0, ::4].long().clamp(0, 499)  # [b, T]
        seen = mouths[:, :, 0, 0].long().clamp(0, 499)
        windows = heard.shape[1] - 10
        return table[heard[:, :windows]], table[seen[:, :windows]]


def streams(frames=75, late=0):
    """mel [64, 4 T] and points [T, 40, 2]; what is heard at t was seen at t - late."""
    number = np.arange(100, 100 + frames)
    mel = np.repeat(np.repeat(number - late, 4)[None], 64, 0).astype(np.float32)
    points = np.broadcast_to(number[:, None, None], (frames, 40, 2)).astype(np.float32)
    return mel, points


@pytest.mark.parametrize("late", [-9, -5, 0, 1, 5, 10])
def test_a_shifted_copy_gives_its_offset(late):
    curve = sync_curve(CodeScorer(), *streams(late=late))
    assert curve.offset == late


def test_confidence_is_for_sync_near_zero_only():
    assert sync_curve(CodeScorer(), *streams()).confidence > 0.9
    assert sync_curve(CodeScorer(), *streams(late=7)).confidence < 0.2


def test_static_lips_read_chance():
    mel, points = streams()
    still = np.repeat(points[40][None], len(points), 0)
    curve = sync_curve(CodeScorer(), mel, still)
    assert abs(curve.confidence) < 0.15


@pytest.mark.parametrize(("frames", "columns"), [(75, 296), (20, 80)])
def test_unfit_streams(frames, columns):
    mel, points = streams(frames)
    with pytest.raises(BadInput):
        sync_curve(CodeScorer(), np.resize(mel, (64, columns)), points)


def test_quiet_windows_hold_no_speech():
    samples = (np.random.default_rng(0).standard_normal(16000 * 3) * 0.1).astype(np.float32)
    samples[:16000] *= 1e-3
    speech = speech_windows(mel_frames(samples, 75))
    assert len(speech) == 65
    assert not speech[:14].any()
    assert speech[26:].all()


def test_s_is_one_for_the_truth_and_zero_for_strangers():
    rng = np.random.default_rng(0)
    truth, shuffled = rng.normal(0.4, 0.05, 30), rng.normal(0.02, 0.05, 30)
    assert relative_score(truth, truth, shuffled).value == pytest.approx(1)
    assert relative_score(shuffled, truth, shuffled).value == pytest.approx(0)
    half = relative_score((truth + shuffled) / 2, truth, shuffled)
    assert isinstance(half, Interval)
    assert half.low < 0.5 < half.high
    assert half.high - half.low < 0.3


@pytest.mark.parametrize("sees", ["points", "pictures"])
def test_an_embedding_sees_its_own_window_only(sees):
    torch.manual_seed(0)
    scorer = SyncScorer(sees, dim=16).eval()
    frames = 20
    mel = torch.randn(1, 64, 4 * frames)
    mouths = torch.rand(1, frames, 40, 2) if sees == "points" else torch.rand(1, frames, 64, 96)
    sound, mouth = scorer(mel, mouths)
    assert sound.shape == mouth.shape == (1, frames - 10, 16)
    if sees == "points":  # pictures are levelled over the stretch, so only R is exactly local
        moved = mouths.clone()
        moved[:, 12:] += 1
        changed = (scorer(mel, moved)[1] - mouth).abs().amax(-1)[0]
        assert (changed[:2] == 0).all()
        assert (changed[2:] > 0).all()
    louder = mel.clone()
    louder[:, :, 4 * 12 :] = torch.randn(1, 64, 4 * (frames - 12))
    changed = (scorer(louder, mouths)[0] - sound).abs().amax(-1)[0]
    assert (changed[:2] == 0).all()
    assert (changed[2:] > 0).all()


def test_loudness_alone_changes_nothing():
    scorer = SyncScorer("points", dim=16).eval()
    mel = torch.randn(1, 64, 80)
    torch.testing.assert_close(
        scorer.audio(mel + torch.randn(1, 1, 80)), scorer.audio(mel), atol=1e-5, rtol=0
    )


def test_weights_come_back(tmp_path):
    scorer = SyncScorer("points", dim=16).eval()
    scorer.save(tmp_path / "r.safetensors")
    again = SyncScorer.load(tmp_path / "r.safetensors")
    mel, points = torch.randn(1, 64, 80), torch.rand(1, 20, 40, 2)
    for a, b in zip(again(mel, points), scorer(mel, points), strict=True):
        torch.testing.assert_close(a, b, atol=5e-3, rtol=0)
    with pytest.raises(NotFound, match="no sync scorer"):
        SyncScorer.load(tmp_path / "other.safetensors")


def test_other_safetensors_are_no_scorer(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match="holds no sync scorer"):
        SyncScorer.load(tmp_path / "x.safetensors")
