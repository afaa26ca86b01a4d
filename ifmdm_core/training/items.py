"""What one sample of a step is made from, as a batch source reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_FRAME = 640
"""16 kHz at 25 frames a second."""


@dataclass(frozen=True)
class ClipFeatures:
    """Motion and speech of a run of frames of one clip, at most a few hundred; stage 2 draws its window from it."""

    clip_id: str
    identity: str | None
    motion: NDArray[np.float32]
    """[n, 20]"""
    speech: NDArray[np.float16]
    """[n, S], in sync with the motion."""


@dataclass(frozen=True)
class FramePair:
    """Two frames of one clip, for stage 1."""

    clip_id: str
    identity: str | None
    frames: NDArray[np.uint8]
    """[2, size, size, 3] RGB"""


@dataclass(frozen=True)
class SpokenClip:
    """Sound and lips of a run of frames of one clip, for the speech encoder."""

    clip_id: str
    samples: NDArray[np.float32]
    """[n * 640], 16 kHz mono in [-1, 1]; sample 0 plays at frame 0's time."""
    lips: NDArray[np.float32]
    """[n, L] lip measurements, the opening first, in units of their spread."""
