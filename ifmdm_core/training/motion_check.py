"""Does stage 2 listen? Lip motion on held-out clips against the truth, for their own and for others' speech.

A quick look in motion space, printed after training; the real tables measure rendered video (`metrics`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.motion.sampler import MotionSampler, WindowRequest
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.motion_data import MotionSet

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LipCheck:
    """Means over held-out clips."""

    clips: int
    r: float
    """Correlation of generated with true lip opening (lip map, row 0)."""
    r_shuffled: float
    """The same when another clip's speech drives the model: what a deaf model reaches too."""
    lag: int
    """Shift in frames of the generated opening at which the mean correlation peaks."""
    range_ratio: float
    """Generated over true p95 - p5 of lip opening."""
    sigma_ratio: float
    """Generated over true standard deviation of m, mean over dimensions."""


def lip_check(
    model: MotionGenerator,
    data: MotionSet,
    controls: RenderControls | None = None,
    most_clips: int = 64,
    frames: int = 45,
    split: str = "heldout",
    closed: bool = True,
    speaking_lips: float = 0.0,
    kind: str | None = None,
) -> LipCheck:
    """Generates one window of up to `frames` per clip of a split and compares lip opening.

    The hint is the clip's frame with the most closed mouth, as portraits have it (else its first); seeds differ by
    clip. `kind` picks clips of one kind.
    """
    controls = controls or RenderControls()
    clips = [c for c in data.of(split) if c.num_frames >= 25 and kind in (None, c.kind)]
    clips = [clips[i] for i in np.linspace(0, len(clips) - 1, min(most_clips, len(clips))).astype(int)]
    if len(clips) < 2:
        raise ValueError(f"a lip check needs two clips of at least 25 frames in split {split!r}")
    device = next(model.parameters()).device
    lengths = [min(frames, c.num_frames) for c in clips]
    hints = [c.first + (int(data.lips[c.rows, 0].argmin()) if closed else 0) for c in clips]

    def speech(clip_index: int, count: int) -> Tensor:
        clip = clips[clip_index]
        rows = np.minimum(np.arange(count), clip.num_frames - 1) + clip.first
        return torch.from_numpy(data.speech[rows].astype(np.float32)).to(device)

    def generate(shift: int) -> list[Array]:
        requests = [
            WindowRequest(
                speech=speech((i + shift) % len(clips), lengths[i]),
                hint=torch.from_numpy(data.motion[hints[i]]).to(device),
                controls=controls.model_copy(update={"seed": i}),
            )
            for i, clip in enumerate(clips)
        ]
        sampler = MotionSampler(model, speaking_lips)
        return [m.cpu().numpy() for start in range(0, len(requests), 16)
                for m in sampler.sample_windows(requests[start : start + 16])]  # fmt: skip

    opening = data.lip_map[0]
    true = [data.motion[c.first : c.first + n] for c, n in zip(clips, lengths, strict=True)]
    made, shuffled = generate(0), generate(len(clips) // 2)
    lags = range(-3, 4)
    by_lag = [
        np.mean([_r(t @ opening, m @ opening, lag) for t, m in zip(true, made, strict=True)]) for lag in lags
    ]
    return LipCheck(
        clips=len(clips),
        r=round(float(by_lag[3]), 3),
        r_shuffled=round(
            float(np.mean([_r(t @ opening, s @ opening, 0) for t, s in zip(true, shuffled)])), 3
        ),
        lag=lags[int(np.argmax(by_lag))],
        range_ratio=round(
            float(np.median([_spread(m @ opening) / _spread(t @ opening) for t, m in zip(true, made)])), 3
        ),
        sigma_ratio=round(float(np.mean([m.std(0).mean() / t.std(0).mean() for t, m in zip(true, made)])), 3),
    )


def _r(true: Array, made: Array, lag: int) -> float:
    """Correlation of true[i] with made[i + lag]."""
    n = len(true)
    a, b = true[max(0, -lag) : n - max(0, lag)], made[max(0, lag) : n - max(0, -lag)]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def _spread(values: Array) -> float:
    low, high = np.percentile(values, [5, 95])
    return float(high - low) + 1e-6


def report(check: LipCheck) -> str:
    """One line."""
    return "  ".join(f"{name} {value}" for name, value in asdict(check).items())
