"""One video's motion, window by window, whoever draws the windows: a state machine without input or output.

sequence = MotionSequence(config, hint, controls, num_frames)
while sequence.window is not None:
    request = sequence.request(features_of(*sequence.speech_span))
    finished = sequence.accept(draw(request))
"""

from __future__ import annotations

import torch
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.motion.config import MOTION_DIM, MotionConfig
from ifmdm_core.motion.windows import Window, WindowRequest, blend, plan_windows


class MotionSequence:
    """Which window comes next, what it is given, and which frames are finished once it is there."""

    def __init__(self, config: MotionConfig, hint: Tensor, controls: RenderControls, num_frames: int) -> None:
        """`num_frames` of motion at the model's rate, from the portrait's own motion `hint` [20] on."""
        self._hint, self._controls = hint, controls
        self._left = plan_windows(num_frames, config)[::-1]
        self._held = max(1, config.context)
        self._done: Tensor | None = None  # last finished frames, at most as many as are context
        self._provisional: Tensor | None = None

    @property
    def window(self) -> Window | None:
        """The next window; None when all frames are finished."""
        return self._left[-1] if self._left else None

    @property
    def speech_span(self) -> tuple[int, int]:
        """First frame and number of frames of the speech features that the next window takes."""
        window = self._left[-1]
        start = window.first - window.context
        return start, window.last - start

    def request(self, speech: Tensor) -> WindowRequest:
        """What the next window depends on, with the features [n, S] of its span. May be asked for again."""
        window = self._left[-1]
        context = None
        if window.context and self._done is not None:
            context = self._done[len(self._done) - window.context :, :MOTION_DIM]
        return WindowRequest(speech, self._hint, window.index, context, self._controls)

    def accept(self, motion: Tensor) -> Tensor:
        """The frames [m, 20] that are finished with the next window's new ones [n, 20].

        Further columns, linear measures of the motion, are fused along with it.
        """
        window = self._left.pop()
        new = motion if self._provisional is None else blend(self._provisional, motion)
        count = window.finished - window.first
        finished, self._provisional = new[:count], new[count:]
        done = finished if self._done is None else torch.cat([self._done, finished])
        self._done = done[-self._held :]
        return finished
