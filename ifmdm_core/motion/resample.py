"""Motion at another frame rate than the model's: linear in time, as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class MotionResampler:
    """Takes motion [n, D] at `model_fps`, window by window, and gives exactly `num_frames` at `fps`.

    Frame j lies at j / fps seconds, so sound and lips stay together at any rate. Beyond the last vector it holds.
    At the model's own rate everything passes as it is.
    """

    def __init__(self, num_frames: int, fps: int, model_fps: int = 25) -> None:
        self.num_frames, self.fps, self.model_fps = num_frames, fps, model_fps
        self._held: Tensor | None = None  # model frames from `_start` on
        self._start = self._done = 0

    def push(self, window: Tensor) -> Iterator[Tensor]:
        """The frames that are known with this window, if any."""
        if self.fps == self.model_fps:
            yield window
            return
        held = window if self._held is None else torch.cat([self._held, window])
        end = self._start + len(held)
        # Frame j needs model frames floor and floor + 1 of j * model_fps / fps.
        ready = min(self.num_frames, -(-(end - 1) * self.fps // self.model_fps))
        made = self._interpolated(held, ready) if ready > self._done else None
        self._done = max(self._done, ready)
        keep = min(self._done * self.model_fps // self.fps, end - 1)
        self._held, self._start = held[keep - self._start :], keep
        if made is not None:
            yield made

    def rest(self) -> Iterator[Tensor]:
        """The last frames, if any, once all windows are there."""
        if self._held is not None and self._done < self.num_frames:
            yield self._interpolated(self._held, self.num_frames)

    def _interpolated(self, held: Tensor, last: int) -> Tensor:
        """Output frames [last - done, D] from model frames `held` that begin at `_start`."""
        numerator = torch.arange(self._done, last, device=held.device) * self.model_fps
        low = (torch.div(numerator, self.fps, rounding_mode="floor") - self._start).clamp(max=len(held) - 1)
        high = (low + 1).clamp(max=len(held) - 1)
        share = (numerator % self.fps).to(held.dtype)[:, None] / self.fps
        return torch.lerp(held[low], held[high], share)


def resample_motion(
    windows: Iterable[Tensor], num_frames: int, fps: int, model_fps: int = 25
) -> Iterator[Tensor]:
    """Motion [n, 20] at `model_fps`, window by window -> exactly `num_frames` at `fps`; see `MotionResampler`."""
    resampler = MotionResampler(num_frames, fps, model_fps)
    for window in windows:
        yield from resampler.push(window)
    yield from resampler.rest()
