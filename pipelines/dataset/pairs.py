"""Pairs of frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.dataset.order import Position


@dataclass(frozen=True)
class FramePair:
    """Two frames of one clip."""

    clip_id: str
    identity: str | None
    rows: tuple[int, int]
    frames: NDArray[np.uint8]
    """[2, size, size, 3]"""
    after: Position
    """Given as `start`, reading goes on behind this pair."""


def read_pair(video: bytes, rows: tuple[int, int], size: int, clip_id: str) -> NDArray[np.uint8]:
    """Two frames of a stored clip, uint8 [2, size, size, 3]. Raises BadInput when it is damaged."""
    return read_frames(video, rows, size, clip_id)


def read_frames(video: bytes, rows: Sequence[int], size: int, clip_id: str) -> NDArray[np.uint8]:
    """Frames of a stored clip, uint8 [n, size, size, 3]. Raises BadInput when it is damaged."""
    import cv2

    from ifmdm_core.media.clip_codec import decode_clip

    frames = decode_clip(video, rows, name=f"clip {clip_id}")
    smaller = size < frames.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (size, size), interpolation=method) for frame in frames])
