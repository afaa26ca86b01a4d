"""How motion of any length is cut into windows, and how their overlaps are fused.

Window k predicts new frames [first, last) after up to `context` finished frames that it is given clean. The last
`overlap` frames of a window are provisional: the next window predicts them again and the two are blended, so a seam is
spread over some frames. All of it follows from the number of frames, so any worker can redo any window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.motion.config import MotionConfig


@dataclass(frozen=True)
class Window:
    """One diffusion call; frames are counted from the start of the whole."""

    index: int
    """Its number, from 0; with the seed it fixes the noise."""
    context: int
    """Frames before `first` that are given."""
    first: int
    """First new frame."""
    last: int
    """One after the last new frame."""
    finished: int
    """One after the last frame that is final once this window is fused with the one before."""


@dataclass(frozen=True)
class WindowRequest:
    """Everything one window depends on."""

    speech: Tensor
    """[c + n, S] features of the c context frames and the n new ones."""
    hint: Tensor
    """[20] the portrait's motion m^i."""
    index: int = 0
    """Number of the window in its video, for the noise."""
    context: Tensor | None = None
    """[c, 20] finished motion right before the new frames; None at the start."""
    controls: RenderControls = field(default_factory=RenderControls)
    """Pose, intensity, guidance, seed; sampler and steps must be the same in a batch."""


def plan_windows(num_frames: int, config: MotionConfig) -> list[Window]:
    """Windows that cover [0, num_frames); each frame is finished by exactly one."""
    windows: list[Window] = []
    done = 0
    while done < num_frames:
        context = min(config.context, done)
        last = min(done + config.window - context, num_frames)
        finished = last if last == num_frames else last - config.overlap
        windows.append(Window(len(windows), context, done, last, finished))
        done = finished
    return windows


def blend(provisional: Tensor, new: Tensor) -> Tensor:
    """Fuses the former window's provisional frames [o, 20] into the first o of `new` [n, 20], n >= o."""
    overlap = min(len(provisional), len(new))
    if overlap == 0:
        return new
    weight = torch.arange(1, overlap + 1, device=new.device, dtype=new.dtype)[:, None] / (
        overlap + 1
    )  # [o, 1]
    return torch.cat([torch.lerp(provisional[:overlap], new[:overlap], weight), new[overlap:]])
