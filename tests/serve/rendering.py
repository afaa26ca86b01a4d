"""Renders over stages, watched: what they gave, and which replica answered."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from ifmdm_core.controls import RenderControls
from ifmdm_core.media.audio import Audio, read_audio
from ifmdm_core.portrait import open_portrait
from serve.flow import Chunk, FlowRequest, render
from serve.identities import IdentityStore
from serve.messages import ChunkCall, Floats, IdentityRef, MotionWindow, Reply, Stages, WindowCall


def sound(seconds: float, seed: int = 0) -> Audio:
    """Noise with the loudness of syllables."""
    count = int(seconds * 16_000)
    time = np.arange(count) / 16_000
    noise = np.random.default_rng(seed).normal(0, 0.1, count) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((np.clip(noise, -1, 1) * 32767).astype("<i2").tobytes())
    return read_audio(file.getvalue())


def identity(root: str, portrait: Path, size: int = 64, **controls: Any) -> IdentityRef:
    """A portrait, registered."""
    return IdentityStore(root).put("acme", open_portrait(portrait, RenderControls(**controls), size))


class WatchedStages:
    """`stages`, with the replicas that answered last. `during` is told the stage of each call that is under way."""

    def __init__(self, stages: Stages, during: Callable[[str], None] = lambda _: None) -> None:
        self.facts, self._stages, self.during = stages.facts, stages, during
        self.replies: list[tuple[str, Reply[Any]]] = []

    def last(self, stage: str) -> str:
        """The replica of a stage that answered last."""
        return next(reply.replica for name, reply in reversed(self.replies) if name == stage)

    async def encode(self, samples: Floats) -> Reply[Floats]:
        return await self._noted("speech", self._stages.encode(samples))

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        return await self._noted("motion", self._stages.sample(call))

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        return await self._noted("decoder", self._stages.identify(identity))

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        return await self._noted("decoder", self._stages.decode(call))

    async def _noted(self, stage: str, answer: Awaitable[Reply[Any]]) -> Reply[Any]:
        call = asyncio.ensure_future(answer)
        try:
            await asyncio.sleep(0.005)
            self.during(stage)
            reply = await call
        finally:
            call.cancel()  # without effect on one that has ended
        self.replies.append((stage, reply))
        return reply


async def rendered(
    stages: Stages, request: FlowRequest, on_chunk: Callable[[int], Awaitable[None]] | None = None
) -> list[Chunk]:
    """All chunks; `on_chunk` is told the number of each as it comes."""
    chunks: list[Chunk] = []
    async for chunk in render(stages, request):
        chunks.append(chunk)
        if on_chunk is not None:
            await on_chunk(len(chunks))
    return chunks


def motion_of(chunks: list[Chunk]) -> Floats:
    """[n, 20] of the whole video."""
    return np.concatenate([chunk.motion for chunk in chunks])


def pictures_of(chunks: list[Chunk]) -> np.ndarray:
    """uint8 [n, H, W, 3] of the whole video."""
    return np.concatenate([pictures(chunk.gop) for chunk in chunks])


def pictures(gop: bytes) -> np.ndarray:
    """uint8 [n, H, W, 3] of one group."""
    with av.open(io.BytesIO(gop)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
