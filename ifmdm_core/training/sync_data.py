"""Batches for the sync scorers: mel and mouth of the same stretch of a clip, both disguised.

A stretch is cut from a clip's inside, three frames away from both ends; sound and picture are stretched together,
then each is roughened alone, in ways that do not change over time and so cannot tell where in the clip they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.metrics.mouth import lip_points, mouth_pictures
from ifmdm_core.metrics.sync import EDGE, mel_frames
from ifmdm_core.metrics.sync_model import MEL_PER_FRAME, ScorerInput
from ifmdm_core.training.dataset import CROP_SIZE, ClipRecord, TrainingSet
from ifmdm_core.training.speech_targets import clip_audio

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SyncClip:
    """One clip as the scorers see it."""

    name: str
    kind: str
    speaker: str
    """Clips of one speaker may serve as each other's negatives; empty when nobody knows."""
    mel: Array
    """[64, 4 T]."""
    mouths: NDArray[np.float32] | NDArray[np.uint8]
    """Lip points [T, 40, 2] or grey pictures [T, 64, 96]."""


def load_sync_clips(
    data: TrainingSet, clips: Sequence[ClipRecord], sees: ScorerInput, offsets: dict[str, float]
) -> list[SyncClip]:
    """Mel and mouths of clips, the sound moved by its kind's offset."""
    loaded = []
    mouths: NDArray[np.float32] | NDArray[np.uint8]
    for clip in clips:
        landmarks = np.asarray(data.landmarks[clip.rows])
        landmarks = _filled(landmarks, np.asarray(data.valid[clip.rows]))
        if sees == "points":
            mouths = lip_points(landmarks)
        else:
            frames = (data.frame(row) for row in range(clip.first, clip.first + clip.num_frames))
            mouths = mouth_pictures(frames, landmarks * CROP_SIZE)
        mel = mel_frames(clip_audio(data, clip, offsets), clip.num_frames)
        speaker = "" if "one of" in clip.identity or clip.kind == "news" else clip.identity
        loaded.append(SyncClip(clip.name, clip.kind, speaker, mel, mouths))
    return loaded


def _filled(landmarks: Array, valid: NDArray[np.bool_]) -> Array:
    """Frames without a face take the nearest frame that has one."""
    good = np.flatnonzero(valid)
    nearest = good[np.abs(np.arange(len(valid))[:, None] - good).argmin(1)]
    return landmarks[nearest]


def cut(clip: SyncClip, frames: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """A random stretch [64, 4 frames] and [frames, ...], played at 0.87 to 1.15 of its speed."""
    length = len(clip.mouths) - 2 * EDGE
    factor = float(np.exp(rng.uniform(-0.14, 0.14)))
    factor = min(factor, (length - 1) / (frames - 1))
    need = min(length, int(np.ceil((frames - 1) * factor)) + 1)
    first = EDGE + int(rng.integers(length - need + 1))
    mouths = clip.mouths[first : first + need].astype(np.float32)
    # frame t lies at the start of its four columns, so both streams stretch about the same instant
    mel = clip.mel[:, first * MEL_PER_FRAME : (first + need) * MEL_PER_FRAME]
    at = np.arange(frames) * factor
    if clip.mouths.dtype == np.uint8:  # blended pictures would show ghosts
        stretched = mouths[np.minimum(at.round().astype(int), need - 1)]
    else:
        low = np.minimum(at.astype(int), need - 2)
        share = (at - low).reshape(-1, *[1] * (mouths.ndim - 1)).astype(np.float32)
        stretched = mouths[low] * (1 - share) + mouths[low + 1] * share
    columns = np.minimum(np.arange(MEL_PER_FRAME * frames) * factor, mel.shape[1] - 1)
    left = np.minimum(columns.astype(int), mel.shape[1] - 2)
    part = (columns - left).astype(np.float32)
    return mel[:, left] * (1 - part) + mel[:, left + 1] * part, stretched


def roughen_mel(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Voice height, equaliser, gain, noise and lost bands, constant over each stretch: [b, 64, t] -> same."""
    batch, bands, _ = mel.shape
    warp = torch.from_numpy(np.exp(rng.uniform(-0.1, 0.1, (batch, 1))).astype(np.float32))
    at = (torch.arange(bands) * warp).clamp(max=bands - 1.001)  # [b, bands]
    low = at.floor().long()
    share = (at - low)[..., None]
    index = low[..., None].expand(-1, -1, mel.shape[2])
    mel = mel.gather(1, index) * (1 - share) + mel.gather(1, index + 1) * share
    points = rng.uniform(-2.0, 2.0, (batch, 6)).astype(np.float32)  # nepers of power: about +-9 dB
    tint = torch.nn.functional.interpolate(torch.from_numpy(points)[:, None], bands, mode="linear")[
        :, 0, :, None
    ]
    mel = mel + tint + torch.from_numpy(rng.uniform(-2.8, 2.8, (batch, 1, 1)).astype(np.float32))
    loud = mel.mean((1, 2), keepdim=True)
    floor = loud + torch.from_numpy(rng.uniform(-7.0, -0.5, (batch, 1, 1)).astype(np.float32))
    noise = floor + tint.roll(1, 0) + 0.5 * torch.from_numpy(rng.standard_normal(mel.shape, dtype=np.float32))
    mel = torch.logaddexp(mel, noise)
    for i in range(batch):
        width = int(rng.integers(0, 9))
        start = int(rng.integers(0, bands - width))
        mel[i, start : start + width] = mel[i].mean()
    return mel


def roughen_points(points: Tensor, rng: np.random.Generator) -> Tensor:
    """Size, place, turn, mirror, shape and jitter of lips: [b, T, 40, 2] -> same. Constant but for the jitter."""
    batch = len(points)

    def draw(reach: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(-reach, reach, (batch, *shape)).astype(np.float32))

    centre = points.mean((1, 2), keepdim=True)
    angle, scale = draw(0.08), 1 + draw(0.12, 1, 1, 2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(-1, 1, 2, 2)
    moved = ((points - centre) * scale) @ turn + centre + draw(0.04, 1, 1, 2)
    shape = torch.from_numpy(rng.standard_normal((batch, 1, 40, 2), dtype=np.float32)) * 0.008
    moved = moved + shape + torch.randn_like(moved) * 0.003
    mirrored = moved[:, :, _MIRROR] * torch.tensor([-1.0, 1.0])
    flip = torch.from_numpy(rng.random((batch, 1, 1, 1)) < 0.5)
    return torch.where(flip, mirrored, moved)


_RING = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 19, 18, 17, 16, 15, 14, 13, 12, 11]
_MIRROR = _RING + [20 + i for i in _RING]
"""For each of `LIPS`, the place of the point on the other side; both rings run left to right below and back above."""


def roughen_pictures(mouths: Tensor, rng: np.random.Generator) -> Tensor:
    """Place, size, turn, mirror, light and contrast of grey mouths [b, T, 64, 96] in [0, 1], constant over time."""
    batch, frames = mouths.shape[:2]

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, batch).astype(np.float32))

    scale, angle, aspect = draw(0.85, 1.15), draw(-0.12, 0.12), mouths.shape[2] / mouths.shape[3]
    flip = torch.from_numpy(np.where(rng.random(batch) < 0.5, -1.0, 1.0).astype(np.float32))
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * angle.cos() * flip, -scale * angle.sin() * aspect
    theta[:, 1, 0], theta[:, 1, 1] = scale * angle.sin() / aspect * flip, scale * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = draw(-0.1, 0.1), draw(-0.12, 0.12)
    grid = torch.nn.functional.affine_grid(theta, [batch, frames, *mouths.shape[2:]], align_corners=False)
    moved = torch.nn.functional.grid_sample(mouths, grid, padding_mode="border", align_corners=False)
    gamma = draw(0.7, 1.4).view(-1, 1, 1, 1)
    noise = torch.randn_like(moved) * draw(0.0, 0.03).view(-1, 1, 1, 1)
    return moved.clamp(1e-3, 1.0) ** gamma + noise
