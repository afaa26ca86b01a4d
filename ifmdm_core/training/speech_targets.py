"""What the speech encoder is taught to hear: lip motion relative to the clip, and where the sound really is.

Lips are given in head coordinates (`metrics.mouth`), as deviations from the clip's own mean, so that neither
head pose nor the shape of a person's mouth has to be guessed from a voice.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.metrics.mel import log_mel
from ifmdm_core.metrics.mouth import jaw_opening, mouth_points
from ifmdm_core.training.dataset import BLENDSHAPES, FPS, SAMPLE_RATE, ClipRecord, TrainingSet

Array = NDArray[np.float32]

MOUTH_BLENDSHAPES = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "mouthStretchLeft", "mouthStretchRight", "mouthSmileLeft",
    "mouthSmileRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight",
)  # fmt: skip
REFERENCE_KIND = "grid"
"""Clips of this kind are in sync by construction; the other kinds' offsets are measured against them."""


@dataclass(frozen=True)
class LipTargets:
    """Standardised lip targets of a training set and the scales behind them."""

    values: Array
    """[N, dim]: lip components, log lip gap, mouth blendshapes; clip mean 0, deviation 1 over training clips."""
    speeds: Array
    """[dim]: deviation of the frame-to-frame change of `values`."""
    names: tuple[str, ...]
    weights: Array
    """[dim]: share of each target in the loss, sum 1: components count by their part of the variance."""


def usable_clips(data: TrainingSet, split: str, least_frames: int = 20) -> list[ClipRecord]:
    """Clips with sound in which nearly every frame has a face."""
    return [
        clip
        for clip in data.clips
        if clip.split == split
        and clip.audio_samples > 0
        and clip.num_frames >= least_frames
        and data.valid[clip.rows].mean() > 0.9
    ]


def lip_targets(data: TrainingSet, components: int = 12) -> LipTargets:
    """Lip targets of every row; scales and components are fitted on training clips only."""
    gap = np.log(0.02 + jaw_opening(np.asarray(data.landmarks)))[:, None]
    points = mouth_points(np.asarray(data.landmarks)).reshape(len(data), -1)  # [N, 141]
    shapes = np.asarray(data.blendshapes)[:, [BLENDSHAPES.index(name) for name in MOUTH_BLENDSHAPES]]
    raw = np.concatenate([points, gap, shapes], 1).astype(np.float32)
    rows = np.zeros(len(data), dtype=bool)
    for split in ("train", "heldout"):
        for clip in usable_clips(data, split):
            valid = np.asarray(data.valid[clip.rows])
            part = raw[clip.rows]
            raw[clip.rows] = np.where(valid[:, None], part - part[valid].mean(0), 0.0)
            rows[clip.rows] = valid if split == "train" else False
    deviations = raw[rows, : points.shape[1]]
    variance, basis = np.linalg.eigh(np.cov(deviations.T))
    variance, basis = variance[::-1][:components], basis[:, ::-1][:, :components]
    values = np.concatenate([raw[:, : points.shape[1]] @ basis, raw[:, points.shape[1] :]], 1)
    values /= values[rows].std(0) + 1e-8
    values = np.clip(values, -5.0, 5.0).astype(np.float32)
    both = rows[1:] & rows[:-1]  # borders of clips add a little to the speeds; harmless
    speeds = np.diff(values, axis=0)[both].std(0)
    share = np.sqrt(variance / variance[0])
    weights = np.concatenate(
        [share / share.sum() * 0.5, [0.2], np.full(shapes.shape[1], 0.3 / shapes.shape[1])]
    )
    names = (*(f"lips{i}" for i in range(components)), "gap", *MOUTH_BLENDSHAPES)
    return LipTargets(values, speeds.astype(np.float32), names, weights.astype(np.float32))


def clip_audio(data: TrainingSet, clip: ClipRecord, offsets: dict[str, float]) -> Array:
    """A clip's sound with its kind's offset taken out: sample 0 belongs to frame 0, [num_frames * 640] float32.

    The end is filled with zeros where the shifted sound stops before the picture.
    """
    samples = data.audio(clip)
    shift = round(offsets.get(clip.kind, 0.0) * SAMPLE_RATE / FPS)
    samples = samples[shift:] if shift >= 0 else np.concatenate([np.zeros(-shift, np.float32), samples])
    wanted = clip.num_frames * SAMPLE_RATE // FPS
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))


def estimate_offsets(data: TrainingSet, limit: int = 500, reach: int = 6) -> dict[str, float]:
    """How many frames the sound comes late in each kind of training clip, relative to `REFERENCE_KIND`.

    A ridge regression from mel context to lip gap is fitted on one kind and its correlation on the other is read
    at every lag; both directions are averaged, the peak is placed by a parabola and rounded to half a frame.
    """
    clips = usable_clips(data, "train")
    kinds = sorted({clip.kind for clip in clips})
    prepared = {k: [_lag_sample(data, c, reach) for c in clips if c.kind == k][:limit] for k in kinds}
    if REFERENCE_KIND not in prepared:
        return dict.fromkeys(kinds, 0.0)
    fits = {kind: _ridge(samples, reach) for kind, samples in prepared.items()}
    offsets = {}
    for kind in kinds:
        forward = _peak(fits[REFERENCE_KIND], prepared[kind], reach)
        backward = _peak(fits[kind], prepared[REFERENCE_KIND], reach)
        offsets[kind] = round(forward - backward) / 2
    return offsets


def _lag_sample(data: TrainingSet, clip: ClipRecord, reach: int) -> tuple[Array, Array]:
    """Mel context at 50 Hz around frames and lags [T + 2 reach, dim], and the log lip gap [T], both mean-free."""
    mel = log_mel(torch.from_numpy(data.audio(clip)), 40).numpy().T  # [t, 40] at 100 Hz
    mel = (mel - mel.mean(0)) / (mel.std() + 1e-3)
    mel = mel[: len(mel) // 2 * 2].reshape(-1, 2, 40).mean(1)  # 50 Hz
    centres = 2 * np.arange(-reach, clip.num_frames + reach)[:, None]
    context = np.clip(centres + np.arange(-12, 13, 2), 0, len(mel) - 1)
    features = mel[context].reshape(len(centres), -1)
    gap = np.log(0.02 + jaw_opening(np.asarray(data.landmarks[clip.rows])))
    return (features - features.mean(0)).astype(np.float32), (gap - gap.mean()).astype(np.float32)


def _ridge(samples: list[tuple[Array, Array]], reach: int) -> Array:
    features = np.concatenate([x[reach : len(x) - reach] for x, _ in samples])
    gaps = np.concatenate([y for _, y in samples])
    penalty = 0.1 * len(features) * np.eye(features.shape[1], dtype=np.float32)
    return np.asarray(np.linalg.solve(features.T @ features + penalty, features.T @ gaps), np.float32)


def _peak(weights: Array, samples: list[tuple[Array, Array]], reach: int) -> float:
    """Lag in frames at which the predicted gap fits best; positive when the sound comes late."""
    predicted = [x @ weights for x, _ in samples]
    scores = []
    for lag in range(-reach, reach + 1):
        shifted = [
            p[reach + lag : reach + lag + len(y)] for p, (_, y) in zip(predicted, samples, strict=True)
        ]
        inner = [(p[reach:-reach], y[reach:-reach]) for p, (_, y) in zip(shifted, samples, strict=True)]
        both = np.concatenate([p for p, _ in inner]), np.concatenate([y for _, y in inner])
        scores.append(float(np.corrcoef(*both)[0, 1]))
    best = int(np.clip(np.argmax(scores), 1, len(scores) - 2))
    a, b, c = scores[best - 1 : best + 2]
    return best - reach + 0.5 * (a - c) / min(a - 2 * b + c, -1e-9)
