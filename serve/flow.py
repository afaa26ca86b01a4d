"""One render over the stages: speech in, chunks of encoded pictures out, in order; for the gateway and for job workers.

It alone knows the request: which windows of speech and motion come next, what goes before them, which frames are
finished. Stages are asked one window or chunk at a time, so a lost call costs little and can be made anywhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.media.audio import Audio
from ifmdm_core.motion.config import MOTION_DIM
from serve.flow_motion import MotionSource, MotionTrack, SampledMotion, StoredMotion
from serve.messages import ChunkCall, Floats, IdentityRef, Stages

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
    motion: MotionTrack | None = None
    """Of an earlier render of the same: then only the decoder is asked, for the same chunks."""


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


async def render(
    stages: Stages, request: FlowRequest, known: Callable[[MotionTrack], None] | None = None
) -> AsyncGenerator[Chunk, None]:
    """The chunks of a video of `audio.num_frames(fps)` frames, as they are read.

    At most DECODING chunks are decoded ahead of the reader, and one window of motion; a reader that stops stops the
    work. Closing the generator cancels the calls under way.

    Args:
        known: told the motion of the whole video as soon as it is known. Then windows are asked for as fast as they
            come, and not only UNREAD chunks ahead: motion is cheap, and with it in hand a render can be resumed.

    Raises BadInput for audio too short for one frame, ValueError for motion of another length, else what the stages
    raise.
    """
    audio, controls = request.audio, request.controls
    if audio.num_frames(controls.fps) == 0:
        raise BadInput(
            f"{audio.name} is too short for one frame at {controls.fps} fps", fix="give longer audio"
        )
    motion: MotionSource
    if request.motion is not None:
        motion = StoredMotion(request.motion, stages.facts.chunk, audio.num_frames(controls.fps))
    else:
        hint = (await stages.identify(request.identity)).value
        motion = SampledMotion(stages, audio, torch.tensor(hint), controls, known)
    unread: deque[tuple[int, Tensor]] = deque()  # chunks of motion, each with the number of its first frame
    decoding: deque[asyncio.Task[Chunk]] = deque()
    window: asyncio.Task[list[tuple[int, Tensor]]] | None = None

    def start() -> None:
        """Whatever may be under way now."""
        nonlocal window
        while unread and len(decoding) < DECODING:
            decoding.append(_begun(_decoded(stages, request, *unread.popleft())))
        if window is None and motion.more and (known is not None or len(unread) + len(decoding) <= UNREAD):
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
