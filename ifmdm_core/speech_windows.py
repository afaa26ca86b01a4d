"""How speech of any length is cut into encoder windows, and how their tokens become features of frames.

Windows lie on a fixed grid, overlap and are cross-faded, so any span of frames can be had alone with the very values
that the whole would give, and any worker can encode any window. No model in here: whoever drives one asks `needed`
which windows a span of frames takes, has the samples of each (`samples_of`) encoded, and gives the tokens to `blend`.
torch is imported where something is computed: naming a grid costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16000


def interpolate_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    """Tokens [..., t, dim] at fractional `positions` [frames], linear, held at the ends: [..., frames, dim]."""
    last = tokens.shape[-2] - 1
    positions = positions.clamp(0, last)
    low = positions.floor().long().clamp(max=max(last - 1, 0))
    share = (positions - low).to(tokens.dtype)[:, None]  # [frames, 1]
    high = (low + 1).clamp(max=last)
    return tokens[..., low, :] * (1 - share) + tokens[..., high, :] * share


def speech_frames(num_samples: int, fps: int) -> int:
    """Video frames that 16 kHz audio lasts: floor(samples * fps / 16000 + 1/2), in integers."""
    return (2 * num_samples * fps + SAMPLE_RATE) // (2 * SAMPLE_RATE)


@dataclass(frozen=True)
class SpeechWindows:
    """The grid of windows of one speech encoder. Window k holds tokens from k * (window - overlap) on."""

    stride: int
    """Samples between tokens."""
    receptive: int
    """Samples that one token sees before the transformer."""
    window: int
    """Tokens of a window."""
    overlap: int
    """Tokens that neighbouring windows share."""
    dim: int
    """Width of a token."""

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of audio of that length, at least 1."""
        return max(1, (num_samples - self.receptive) // self.stride + 1)

    def frame_positions(self, num_frames: int, fps: float = 25, first_frame: int = 0) -> Tensor:
        """Token position of each frame's time, float64 [num_frames]; token k is centred on its receptive field."""
        import torch

        times = torch.arange(first_frame, first_frame + num_frames, dtype=torch.float64) / fps
        return (times * SAMPLE_RATE - self.receptive / 2) / self.stride

    def needed(self, num_samples: int, first_frame: int, num_frames: int, fps: int = 25) -> list[int]:
        """Numbers of the windows that frames [first_frame, first_frame + num_frames) take, rising."""
        if num_frames == 0:
            return []
        low, high, _ = self._tokens_of(num_samples, first_frame, num_frames, fps)
        last, hop = self._last(num_samples), self.window - self.overlap
        near = range(max(0, (low - self.window) // hop), min(last, high // hop) + 1)
        return [
            k for k in near if self._span(k, num_samples)[1] > low and self._span(k, num_samples)[0] < high
        ]

    def samples_of(self, index: int, num_samples: int) -> slice:
        """The samples that window `index` of audio of that length encodes."""
        start, stop = self._span(index, num_samples)
        return slice(start * self.stride, min(num_samples, (stop - 1) * self.stride + self.receptive))

    def blend(
        self,
        tokens: Mapping[int, Tensor],
        num_samples: int,
        first_frame: int,
        num_frames: int,
        fps: int = 25,
    ) -> Tensor:
        """Features [num_frames, dim] of a span, on the tokens' device.

        Args:
            tokens: [t, dim] of each window that `needed` names; others are not looked at.
            num_samples: length of the whole audio at 16 kHz. Beyond it the last token holds.
        """
        import torch

        if num_frames == 0:
            return torch.zeros(0, self.dim)
        low, high, positions = self._tokens_of(num_samples, first_frame, num_frames, fps)
        wanted = self.needed(num_samples, first_frame, num_frames, fps)
        device, last = tokens[wanted[0]].device, self._last(num_samples)
        mixed = torch.zeros(high - low, self.dim, device=device)
        weights = torch.zeros(high - low, 1, device=device)
        for k in wanted:
            start, stop = self._span(k, num_samples)
            a, b = max(low, start), min(high, stop)
            fade = self._fade(stop - start, k > 0, k < last).to(device)[a - start : b - start, None]
            mixed[a - low : b - low] += fade * tokens[k][a - start : b - start]
            weights[a - low : b - low] += fade
        return interpolate_tokens(mixed / weights, (positions - low).to(device))

    def _tokens_of(self, num_samples: int, first: int, count: int, fps: int) -> tuple[int, int, Tensor]:
        """The tokens [low, high) that frames lie between, and the frames' positions [count] among all tokens."""
        total = self.num_tokens(num_samples)
        positions = self.frame_positions(count, fps, first).clamp(0, total - 1)
        return int(positions[0]), min(total, int(positions[-1]) + 2), positions

    def _last(self, num_samples: int) -> int:
        """Number of the last window that adds tokens."""
        total = self.num_tokens(num_samples)
        return max(0, -(-(total - self.overlap) // (self.window - self.overlap)) - 1)

    def _span(self, index: int, num_samples: int) -> tuple[int, int]:
        """The tokens [start, stop) of a window."""
        start = index * (self.window - self.overlap)
        return start, min(self.num_tokens(num_samples), start + self.window)

    def _fade(self, length: int, before: bool, after: bool) -> Tensor:
        """Weights [length] of a window's tokens: ramps over the overlaps, nothing for the outermost quarter."""
        import torch

        quarter = self.overlap / 4
        ramp = ((torch.arange(self.overlap) + 0.5 - quarter) / (2 * quarter)).clamp(1e-6, 1.0)
        fade = torch.ones(length)
        if before:
            fade[: self.overlap] *= ramp[:length]
        if after:
            fade[-self.overlap :] *= ramp.flip(0)
        return fade
