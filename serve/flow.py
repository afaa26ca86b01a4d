"""One render over the stages: speech in, chunks of encoded pictures out, in order; for the gateway and for job workers.

It alone knows the request: which windows of speech and motion come next, what goes before them, which frames are
finished. Stages are asked one window or chunk at a time, so a lost call costs little and can be made anywhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.media.audio import Audio
from ifmdm_core.motion.chunks import Chunks
from ifmdm_core.motion.config import MOTION_DIM
from ifmdm_core.motion.resample import MotionResampler
from ifmdm_core.motion.sequence import MotionSequence
from ifmdm_core.speech_source import MODEL_FPS
from serve.messages import ChunkCall, Floats, IdentityRef, Stages, WindowCall

DECODING = 2
"""Chunks that are decoded, or wait decoded for the reader, at a time."""
UNREAD = 2
"""Chunks of motion not yet read, up to which the next window is asked for."""


@dataclass(frozen=True)
class FlowRequest:
    """What is rendered."""

    identity: IdentityRef
    """A portrait in the store, aligned for the model; whether it is pasted back is a matter of how it was stored."""
    audio: Audio
    controls: RenderControls


@dataclass(frozen=True)
class Chunk:
    """Some frames of the video, in order."""

    first_frame: int
    frames: int
    gop: bytes
    """Closed group of pictures, see `media.gop`."""
    motion: Floats
    """[frames, 20] at the output's frame rate."""
    opening: Floats
    """[frames] mouth opening, in spreads of the training set."""


async def render(stages: Stages, request: FlowRequest) -> AsyncGenerator[Chunk, None]:
    """The chunks of a video of `audio.num_frames(fps)` frames, as they are read.

    At most DECODING chunks are decoded ahead of the reader, and one window of motion; a reader that stops stops the
    work. Closing the generator cancels the calls under way.

    Raises BadInput for audio too short for one frame, else what the stages raise.
    """
    audio, controls = request.audio, request.controls
    if audio.num_frames(controls.fps) == 0:
        raise BadInput(
            f"{audio.name} is too short for one frame at {controls.fps} fps", fix="give longer audio"
        )
    hint = (await stages.identify(request.identity)).value
    motion = _Motion(stages, audio, torch.tensor(hint), controls)
    unread: deque[tuple[int, Tensor]] = deque()  # chunks of motion, each with the number of its first frame
    decoding: deque[asyncio.Task[Chunk]] = deque()
    window: asyncio.Task[list[tuple[int, Tensor]]] | None = None

    def start() -> None:
        """Whatever may be under way now."""
        nonlocal window
        while unread and len(decoding) < DECODING:
            decoding.append(_begun(_decoded(stages, request, *unread.popleft())))
        if window is None and motion.more and len(unread) + len(decoding) <= UNREAD:
            window = _begun(motion.next_chunks())

    try:
        while True:
            start()
            head = decoding[0] if decoding else None
            waiting = {task for task in (window, head) if task is not None}
            if not waiting:
                return
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if window is not None and window.done():
                unread.extend(window.result())
                window = None
            if head is not None and head.done():
                chunk = decoding.popleft().result()
                start()
                yield chunk
    finally:
        left = [*decoding, *([window] if window is not None else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _begun(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def _decoded(stages: Stages, request: FlowRequest, first: int, rows: Tensor) -> Chunk:
    motion: Floats = rows[:, :MOTION_DIM].contiguous().numpy()
    controls = request.controls
    reply = await stages.decode(ChunkCall(request.identity, first, motion, controls.fps, controls.size))
    return Chunk(first, len(motion), reply.value, motion, rows[:, MOTION_DIM].numpy())


class _Motion:
    """Motion at the output's frame rate, with the mouth opening as a last column, window by window."""

    def __init__(self, stages: Stages, audio: Audio, hint: Tensor, controls: RenderControls) -> None:
        facts, total = stages.facts, audio.num_frames(controls.fps)
        self._stages, self._speech = stages, _Speech(stages, audio.samples)
        steps = max(1, audio.num_frames(MODEL_FPS))
        self._sequence = MotionSequence(facts.motion, hint, controls, steps)
        self._resampler = MotionResampler(total, controls.fps, MODEL_FPS)
        self._chunks = Chunks(facts.chunk)
        self._done = 0

    @property
    def more(self) -> bool:
        """Whether there is another window."""
        return self._sequence.window is not None

    async def next_chunks(self) -> list[tuple[int, Tensor]]:
        """Chunks [n, 21] that are full with the next window, each with the number of its first frame."""
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
        return [self._numbered(chunk) for chunk in chunks]

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
