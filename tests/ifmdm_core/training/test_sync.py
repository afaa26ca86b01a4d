"""Training of sync scorers: streams stay together, negatives are what they should be, learning finds offsets."""

import numpy as np
import pytest
import torch

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.sync import sync_curve
from ifmdm_core.training.sync import SyncTrainer, SyncTraining, contrast, cross_validate, train_sync
from ifmdm_core.training.sync_data import (
    _MIRROR,
    SyncClip,
    cut,
    roughen_mel,
    roughen_pictures,
    roughen_points,
)
from ifmdm_core.training.sync_gates import CHANCE, agreement, report_gates, spans


def talking(number: int, frames: int = 80, kind: str = "grid", speaker: str = "a") -> SyncClip:
    """Lips whose opening is what a band of the sound does: learnable in seconds."""
    rng = np.random.default_rng(number)
    track = np.convolve(rng.standard_normal(4 * frames + 15), np.hanning(18)[1:-1] / 3, "valid")[: 4 * frames]
    mel = rng.standard_normal((64, 4 * frames)).astype(np.float32) * 0.1
    mel[10:30] += track
    points = rng.normal(0, 0.05, (1, 40, 2)) + np.zeros((frames, 1, 1))
    points[:, 20:, 1] += 0.1 * track[::4, None]
    return SyncClip(f"{number}", kind, speaker, mel, points.astype(np.float32))


def test_cutting_keeps_sound_and_mouth_together():
    frames = 60
    number = np.arange(frames, dtype=np.float32)
    mel = np.repeat(number, 4)[None].repeat(64, 0) + np.tile([0, 0.25, 0.5, 0.75], frames)
    mouths = np.broadcast_to(number[:, None, None], (frames, 40, 2)).astype(np.float32)
    clip = SyncClip("x", "mixed", "", mel.astype(np.float32), mouths)
    for seed in range(20):
        heard, seen = cut(clip, 30, np.random.default_rng(seed))
        assert heard.shape == (64, 120)
        np.testing.assert_allclose(heard[0, ::4], seen[:, 0, 0], atol=0.3)
        assert seen.min() >= 3
        assert seen.max() <= frames - 4  # the first and last three frames are never used


def test_cutting_a_clip_that_just_fits():
    clip = talking(0, frames=29)
    heard, seen = cut(clip, 23, np.random.default_rng(0))
    assert (heard.shape, seen.shape) == ((64, 92), (23, 40, 2))


def test_disguises_do_not_change_over_time():
    """Constant input stays constant (but for jitter), so nothing tells where in the clip one is."""
    rng = np.random.default_rng(0)
    points = roughen_points(torch.rand(3, 1, 40, 2).repeat(1, 30, 1, 1), rng)
    assert points.std(1).max() < 0.01
    pictures = roughen_pictures(torch.rand(3, 1, 64, 96).repeat(1, 9, 1, 1), rng)
    assert pictures.std(1).mean() < 0.04
    mel = roughen_mel(torch.randn(3, 64, 1).repeat(1, 1, 400), rng)
    drift = (mel[..., :200].mean(-1) - mel[..., 200:].mean(-1)).abs()
    assert drift.max() < 0.25


def test_the_mirror_swaps_left_and_right():
    assert [_MIRROR[i] for i in _MIRROR] == list(range(40))
    angle = np.concatenate([np.linspace(np.pi, 0, 11), np.linspace(0, -np.pi, 11)[1:-1]])
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    np.testing.assert_allclose(ring[_MIRROR[:20]], ring * [-1, 1], atol=1e-9)


def embeddings(clips: int, windows: int, dim: int = 64) -> torch.Tensor:
    codes = torch.randn(clips, windows, dim, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(codes, dim=-1)


def test_contrast_wants_the_true_window_and_forgives_its_neighbours():
    codes, sharp = embeddings(4, 20), torch.tensor(20.0)
    right, share = contrast(codes, codes, sharp, [""] * 4, 0.2)
    wrong, _ = contrast(codes, codes.roll(5, 1), sharp, [""] * 4, 0.2)
    assert right < 0.2 < 3 < wrong
    assert share == 1
    twin = codes.clone()
    twin[:, 10] = twin[:, 11]  # the next window looks the same: no negative
    assert contrast(twin, twin, sharp, [""] * 4, 0.2)[0] < 0.2
    far = codes.clone()
    far[:, 10] = far[:, 16]
    assert contrast(far, far, sharp, [""] * 4, 0.2)[0] > right + 0.03


def test_other_clips_count_for_the_same_speaker_only():
    codes, sharp = embeddings(2, 12), torch.tensor(20.0)
    double = torch.cat([codes[:1], codes[:1]])  # another clip that fits as well
    alone, _ = contrast(double, double, sharp, ["", ""], 0.2)
    known, _ = contrast(double, double, sharp, ["anna", "anna"], 0.2)
    strangers, _ = contrast(double, double, sharp, ["anna", "otto"], 0.2)
    assert known > alone + 0.1
    assert strangers == alone


def test_training_learns_offsets_and_resumes(tmp_path):
    clips = [talking(i) for i in range(24)]
    config = SyncTraining(frames_per_batch=360, long_share=1.0)
    train_sync(clips, tmp_path / "r.safetensors", None, 15, config)
    scorer = train_sync(clips, tmp_path / "r.safetensors", None, 45, config)
    report = report_gates(scorer, [talking(100 + i) for i in range(6)])
    assert report.grid is not None
    assert report.grid.value >= 5 / 6
    assert report.people is None
    assert not report.valid  # no people, no validity
    assert "not available" in str(report)
    late = talking(200)
    curve = sync_curve(scorer, late.mel[:, :-16], late.mouths[4:])
    assert abs(curve.offset - 4) <= 1
    assert all(probe.value <= 0.5 for probe in report.probes.values())


def test_pictures_take_a_step():
    rng = np.random.default_rng(0)
    clips = [
        SyncClip(f"{i}", "mixed", "", c.mel, rng.integers(0, 255, (80, 64, 96), dtype=np.uint8))
        for i, c in enumerate(talking(i) for i in range(2))
    ]
    trainer = SyncTrainer(clips, SyncTraining(sees="pictures", frames_per_batch=120))
    from ifmdm_core.training.loop import LoopState

    assert torch.isfinite(torch.as_tensor(trainer.step(LoopState())["loss"]))


def test_spans_leave_room_to_search():
    assert len(spans(talking(0, 75))) == 1
    pieces = spans(talking(0, 250))
    assert [len(mouths) for _, mouths in pieces] == [125, 125]
    assert all(mel.shape[1] == 4 * len(mouths) for mel, mouths in pieces)
    assert pytest.approx(3 / 21) == CHANCE


def test_too_short_clips():
    with pytest.raises(BadInput, match="long enough"):
        SyncTrainer([talking(i, frames=20) for i in range(3)], SyncTraining())


def test_agreement_forgives_a_clip_that_is_out_of_sync_as_a_whole():
    assert agreement([[3, 3, 4], [0, 1]]).value == 1
    assert agreement([[3, -7], [0, 0]]).value == 0.5
    assert agreement([[2]]) is None


def test_cross_validation_leaves_every_speaker_out_once(tmp_path):
    clips = [talking(i, kind="mixed", speaker=f"s{i // 2}") for i in range(6)] + [talking(9), talking(10)]
    found = cross_validate(
        clips, tmp_path, folds=3, minutes=None, max_steps=1, config=SyncTraining(frames_per_batch=120)
    )
    assert sorted(found) == [str(i) for i in range(6)]
    assert all(len(offsets) == 1 for offsets in found.values())
