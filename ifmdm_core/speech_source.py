"""Speech features of a long recording, made as they are needed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.speech import SpeechEncoder

MODEL_FPS = 25
"""Frames a second that motion is generated at."""
SPEECH_BLOCK = 1000
"""Frames of speech features computed at a time, after a first block of a quarter of it (so streams start early)."""


class SpeechSource:
    """Speech features computed in blocks; the last two blocks are kept."""

    def __init__(self, encoder: SpeechEncoder, samples: NDArray[np.float32]) -> None:
        self._encoder, self._samples = encoder, samples
        self._blocks: dict[int, Tensor] = {}

    def __call__(self, first: int, count: int) -> Tensor:
        """[count, S] of frames [first, first + count)."""
        parts = []
        while count > 0:
            start, stop = self._bounds(first)
            if start not in self._blocks:
                self._blocks = dict(list(self._blocks.items())[-1:])
                self._blocks[start] = self._encoder.encode_span(self._samples, start, stop - start, MODEL_FPS)
            take = min(count, stop - first)
            parts.append(self._blocks[start][first - start : first - start + take])
            first, count = first + take, count - take
        return torch.cat(parts)

    def _bounds(self, frame: int) -> tuple[int, int]:
        """The block that holds a frame; none reaches further than a block's length beyond the audio."""
        early = SPEECH_BLOCK // 4
        start, length = (
            (0, early) if frame < early else (frame - (frame - early) % SPEECH_BLOCK, SPEECH_BLOCK)
        )
        whole = -(-len(self._samples) * MODEL_FPS // 16_000) + 1
        return start, max(frame + 1, min(start + length, whole))
