"""Motion at another frame rate than the model's: linear in time, as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def resample_motion(
    windows: Iterable[Tensor], num_frames: int, fps: int, model_fps: int = 25
) -> Iterator[Tensor]:
    """Motion [n, 20] at `model_fps`, window by window -> exactly `num_frames` at `fps`.

    Frame j lies at j / fps seconds, so sound and lips stay together at any rate. Beyond the last vector it holds.
    """
    if fps == model_fps:
        yield from windows
        return
    held: Tensor | None = None  # model frames from `start` on
    start = done = 0
    for window in windows:
        held = window if held is None else torch.cat([held, window])
        # Frame j needs model frames floor and floor + 1 of j * model_fps / fps.
        ready = min(num_frames, -(-(start + len(held) - 1) * fps // model_fps))
        if ready > done:
            yield _interpolate(held, start, done, ready, fps, model_fps)
            done = ready
        keep = min(done * model_fps // fps, start + len(held) - 1)
        held, start = held[keep - start :], keep
    if held is not None and done < num_frames:
        yield _interpolate(held, start, done, num_frames, fps, model_fps)


def _interpolate(held: Tensor, start: int, first: int, last: int, fps: int, model_fps: int) -> Tensor:
    """Output frames [last - first, 20] from model frames `held` that begin at `start`."""
    numerator = torch.arange(first, last, device=held.device) * model_fps
    low = (torch.div(numerator, fps, rounding_mode="floor") - start).clamp(max=len(held) - 1)
    high = (low + 1).clamp(max=len(held) - 1)
    share = (numerator % fps).to(held.dtype)[:, None] / fps
    return torch.lerp(held[low], held[high], share)
