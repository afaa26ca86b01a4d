"""Where a render's motion comes from: the stages, window by window, or an earlier render of the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.media.audio import Audio
from ifmdm_core.motion.chunks import Chunks
from ifmdm_core.motion.config import MOTION_DIM
from ifmdm_core.motion.resample import MotionResampler
from ifmdm_core.motion.sequence import MotionSequence
from ifmdm_core.speech_source import MODEL_FPS
from serve.messages import Floats, Stages, WindowCall


@dataclass(frozen=True)
class MotionTrack:
    """The motion of a whole video."""

    motion: Floats
    """[frames, 20] at the output's frame rate."""
    opening: Floats
    """[frames] mouth opening, in spreads of the training set."""


class MotionSource(Protocol):
    """Where chunks of motion come from, [n, 21] at the output's frame rate: the mouth opening is the last column."""

    @property
    def more(self) -> bool:
        """Whether there is another window."""
        ...

    async def next_chunks(self) -> list[tuple[int, Tensor]]:
        """Chunks that are full with the next window, each with the number of its first frame."""
        ...


class StoredMotion:
    """Motion that is known, as one window."""

    def __init__(self, track: MotionTrack, chunk: int, frames: int) -> None:
        self._rows = torch.from_numpy(
            np.concatenate([track.motion, track.opening[:, None]], 1)
        )  # [frames, 21]
        if len(self._rows) != frames:
            raise ValueError(f"motion of {len(self._rows)} frames for a video of {frames}")
        self._chunk = chunk
        self.more = True

    async def next_chunks(self) -> list[tuple[int, Tensor]]:
        """All of them."""
        self.more = False
        starts = range(0, len(self._rows), self._chunk)
        return list(zip(starts, self._rows.split(self._chunk), strict=True))


class SampledMotion:
    """Motion that the stages make, window by window."""

    def __init__(
        self,
        stages: Stages,
        audio: Audio,
        hint: Tensor,
        controls: RenderControls,
        known: Callable[[MotionTrack], None] | None,
    ) -> None:
        facts, total = stages.facts, audio.num_frames(controls.fps)
        self._stages, self._speech = stages, _Speech(stages, audio.samples)
        steps = max(1, audio.num_frames(MODEL_FPS))
        self._sequence = MotionSequence(facts.motion, hint, controls, steps)
        self._resampler = MotionResampler(total, controls.fps, MODEL_FPS)
        self._chunks = Chunks(facts.chunk)
        self._done = 0
        self._known = known
        self._whole: list[Tensor] = []

    @property
    def more(self) -> bool:
        """See `MotionSource`."""
        return self._sequence.window is not None

    async def next_chunks(self) -> list[tuple[int, Tensor]]:
        """See `MotionSource`."""
        speech = await self._speech.features(*self._sequence.speech_span)
        asked = self._sequence.request(speech)
        call = WindowCall(
            speech=asked.speech.numpy(),
            hint=asked.hint.numpy(),
            index=asked.index,
            context=None if asked.context is None else asked.context.contiguous().numpy(),
            controls=asked.controls,
        )
        answer = (await self._stages.sample(call)).value
        rows = np.concatenate([answer.motion, answer.opening[:, None]], 1)  # [n, 21]
        finished = self._sequence.accept(torch.from_numpy(rows))
        chunks = [c for part in self._resampler.push(finished) for c in self._chunks.push(part)]
        if not self.more:
            chunks += [c for part in self._resampler.rest() for c in self._chunks.push(part)]
            chunks += self._chunks.rest()
        self._tell(chunks)
        return [self._numbered(chunk) for chunk in chunks]

    def _tell(self, chunks: list[Tensor]) -> None:
        if self._known is None:
            return
        self._whole += chunks
        if not self.more:
            rows = torch.cat(self._whole)
            self._known(
                MotionTrack(
                    rows[:, :MOTION_DIM].contiguous().numpy(), rows[:, MOTION_DIM].contiguous().numpy()
                )
            )

    def _numbered(self, chunk: Tensor) -> tuple[int, Tensor]:
        first = self._done
        self._done += len(chunk)
        return first, chunk


class _Speech:
    """Features of spans of frames, asked for in rising order; tokens are kept as long as they are needed."""

    def __init__(self, stages: Stages, samples: Floats) -> None:
        self._stages, self._samples, self._windows = stages, samples, stages.facts.speech
        self._tokens: dict[int, Tensor] = {}

    async def features(self, first: int, count: int) -> Tensor:
        """[count, S] of frames [first, first + count) at the model's rate."""
        total = len(self._samples)
        wanted = self._windows.needed(total, first, count, MODEL_FPS)
        self._tokens = {k: tokens for k, tokens in self._tokens.items() if k in wanted}
        for k in wanted:
            if k not in self._tokens:
                piece = np.array(self._samples[self._windows.samples_of(k, total)], np.float32)
                self._tokens[k] = torch.tensor((await self._stages.encode(piece)).value)
        return self._windows.blend(self._tokens, total, first, count, MODEL_FPS)
