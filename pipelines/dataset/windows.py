"""Windows of a clip: which frames, and the motion and speech that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.dataset.order import Position
from pipelines.dataset.shard_file import feature_values


@dataclass(frozen=True)
class Window:
    """Some consecutive frames of a clip with the speech that belongs to them."""

    clip_id: str
    identity: str | None
    first_frame: int
    """of the clip"""
    motion: NDArray[np.float32]
    """[n, 20]"""
    speech: NDArray[np.float16]
    """[n, dim], moved by the selection's audio offset"""
    after: Position
    """Given as `start`, reading goes on behind this window."""


def cut_windows(num_frames: int, shift: int, length: int, stride: int) -> list[tuple[int, int]]:
    """Windows [first, last) of a clip whose speech is `shift` frames late: both sides exist for every frame.

    Their union is all such frames; they are `length` long unless the clip is shorter.
    """
    low, high = max(0, -shift), num_frames - max(0, shift)
    if high <= low:
        return []
    if high - low <= length:
        return [(low, high)]
    starts = list(range(low, high - length + 1, stride))
    if starts[-1] + length < high:
        starts.append(high - length)
    return [(first, first + length) for first in starts]


@dataclass(frozen=True)
class WindowAt:
    """A window that is not read yet: where its features lie."""

    motion: pa.ChunkedArray
    speech: pa.ChunkedArray
    row: int
    clip: dict[str, Any]
    first: int
    last: int
    shift: int
    motion_dim: int
    speech_dim: int

    def read(self, after: Position) -> Window:
        motion = feature_values(self.motion, self.row, self.motion_dim)
        speech = feature_values(self.speech, self.row, self.speech_dim)
        assert motion is not None
        assert speech is not None
        # Copies: the mapped file is closed when its group is done.
        return Window(
            self.clip["clip_id"],
            self.clip["identity"],
            self.first,
            motion[self.first : self.last].copy(),
            speech[self.first + self.shift : self.last + self.shift].copy(),
            after,
        )
