"""How late a clip's sound comes, as its own mouth tells: the picture scorer's best offset.

One clip's estimate is rough; a selection takes the middle of a source's clips.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ifmdm_core.metrics.mouth import mouth_pictures
from ifmdm_core.metrics.sync import REACH, mel_frames, sync_curve
from ifmdm_core.metrics.sync_model import SyncScorer

FPS = 25  # what the scorer was trained on
LEAST = 40  # frames
MOST = 100  # frames: more cost time and change little
AWAY = 5  # frames from the best offset: as wrong as any

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SyncOffset:
    """`seconds` that the sound comes late, in steps of 0.04 within 0.4 either way; `confidence`: the cosine there
    over the mean of those at least 5 frames away. Below about 0.1 the offset means little.
    """

    seconds: float
    confidence: float


def judged_frames(num_frames: int) -> range:
    """The frames of a clip that are looked at: the middle 100; none of a clip that is too short."""
    if num_frames < LEAST:
        return range(0)
    count = min(num_frames, MOST)
    first = (num_frames - count) // 2
    return range(first, first + count)


def sync_offset(frames: Sequence[Image], landmarks: Floats, samples: Samples) -> SyncOffset:
    """Judge frames [S, S, 3] at 25 fps with their meshes [n, 478, 2] in pixels and sound [n * 640] at 16 kHz."""
    mouths: npt.NDArray[Any] = mouth_pictures(frames, landmarks.astype(np.float32))  # [n, 64, 96]
    curve = sync_curve(load_scorer(), mel_frames(samples, len(frames)), mouths)
    best = int(np.argmax(curve.similarity))
    far = np.abs(np.arange(2 * REACH + 1) - best) >= AWAY
    confidence = float(curve.similarity[best] - curve.similarity[far].mean())
    return SyncOffset(curve.offset / FPS, confidence)


@functools.lru_cache(maxsize=1)
def load_scorer() -> SyncScorer:
    """The picture scorer, loaded once a process."""
    return SyncScorer.load("P")
