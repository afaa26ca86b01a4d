"""Does stage 2 listen? Lip motion on held-out clips against the truth, for their own and for others' speech.

A quick look in motion space, printed after training; the real tables measure rendered video (`metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class LipTraces:
    """Motion [n, 20] of held-out clips: as it was, driven by the clip's own speech, by another clip's."""

    true: list[Array]
    made: list[Array]
    shuffled: list[Array]


def trace_lips(
    model: MotionGenerator,
    clips: Sequence[tuple[Array, NDArray[np.floating], Array]],
    controls: RenderControls | None = None,
    frames: int = 45,
    speaking_lips: float = 0.0,
) -> LipTraces:
    """Generates one window of up to `frames` per clip (motion [n, 20], speech [n, S], hint [20]).

    Seeds differ by clip. Raises ValueError for fewer than two clips: one of them drives another.
    """
    if len(clips) < 2:
        raise ValueError(f"{len(clips)} clips: a lip check needs two")
    controls = controls or RenderControls()
    device = next(model.parameters()).device
    lengths = [min(frames, len(motion)) for motion, _, _ in clips]

    def generate(shift: int) -> list[Array]:
        requests = []
        for i, (_, _, hint) in enumerate(clips):
            heard = clips[(i + shift) % len(clips)][1]
            rows = np.minimum(np.arange(lengths[i]), len(heard) - 1)
            requests.append(
                WindowRequest(
                    speech=torch.from_numpy(heard[rows].astype(np.float32)).to(device),
                    hint=torch.from_numpy(hint).to(device),
                    controls=controls.model_copy(update={"seed": i}),
                )
            )
        sampler = MotionSampler(model, speaking_lips)
        return [m.cpu().numpy() for start in range(0, len(requests), 16)
                for m in sampler.sample_windows(requests[start : start + 16])]  # fmt: skip

    true = [motion[:n] for (motion, _, _), n in zip(clips, lengths, strict=True)]
    return LipTraces(true, generate(0), generate(len(clips) // 2))


def judge_lips(traces: LipTraces, opening: Array) -> LipCheck:
    """Means over clips; `opening` [20] is the row of the lip map that measures how far the mouth is open."""
    pairs = list(zip(traces.true, traces.made, strict=True))
    lags = range(-3, 4)
    by_lag = [np.mean([lagged_r(t @ opening, m @ opening, lag) for t, m in pairs]) for lag in lags]
    shuffled = np.mean(
        [lagged_r(t @ opening, m @ opening, 0) for t, m in zip(traces.true, traces.shuffled, strict=True)]
    )
    return LipCheck(
        clips=len(pairs),
        r=round(float(by_lag[lags.index(0)]), 3),
        r_shuffled=round(float(shuffled), 3),
        lag=lags[int(np.argmax(by_lag))],
        range_ratio=round(
            float(np.median([_spread(m @ opening) / _spread(t @ opening) for t, m in pairs])), 3
        ),
        sigma_ratio=round(float(np.mean([m.std(0).mean() / t.std(0).mean() for t, m in pairs])), 3),
    )


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
    clips = [c for c in data.of(split) if c.num_frames >= 25 and kind in (None, c.kind)]
    clips = [clips[i] for i in np.linspace(0, len(clips) - 1, min(most_clips, len(clips))).astype(int)]
    if len(clips) < 2:
        raise ValueError(f"a lip check needs two clips of at least 25 frames in split {split!r}")
    hints = [c.first + (int(data.lips[c.rows, 0].argmin()) if closed else 0) for c in clips]
    given = [
        (data.motion[c.rows], data.speech[c.rows], data.motion[h]) for c, h in zip(clips, hints, strict=True)
    ]
    return judge_lips(trace_lips(model, given, controls, frames, speaking_lips), data.lip_map[0])


def lagged_r(true: Array, made: Array, lag: int = 0) -> float:
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
