"""One render under way: chunks of the flow become fragments of an MP4, and in the end a signed file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import numpy as np

from ifmdm_core.errors import Cancelled
from ifmdm_core.media.audio import Audio
from ifmdm_core.media.fragments import FragmentedMp4
from serve.finished import GopSpool
from serve.flow import Chunk
from serve.messages import Floats, IdentityRef, ModelFacts
from serve.metrics import RenderWatch, outcome_of

Finish = Callable[["RenderStream", GopSpool], Coroutine[Any, Any, None]]
"""Makes and stores the finished file."""


class RenderStream:
    """A render under way; iterate it for the bytes of a fragmented MP4, then `finished` gives the file.

    Nothing is computed that nobody reads: at most two chunks are ahead of the reader.
    """

    def __init__(
        self,
        *,
        id: str,
        facts: ModelFacts,
        identity: IdentityRef,
        size: tuple[int, int],
        note: str,
        audio: Audio,
        fps: int,
        tags: dict[str, str],
        chunks: AsyncGenerator[Chunk, None],
        watch: RenderWatch,
        held: AsyncExitStack,
        finish: Finish,
    ) -> None:
        """`held` is given back when the last chunk has come, or on close; made by `RenderService.open`."""
        self.id = id
        """Of the render and of its finished file, 32 hex digits."""
        self.facts, self.identity = facts, identity
        self.num_frames, self.fps = audio.num_frames(fps), fps
        self.size = size
        """(width, height) in pixels."""
        self.note = note
        """What the user should know, such as which of several faces was taken; empty when nothing."""
        self.file_url = f"/v1/files/{id}"
        """Path of the finished, signed file."""
        self.audio, self.tags = audio, tags
        self.frames = 0
        """Frames sent so far."""
        self._motion: list[Floats] = []
        self._opening: list[Floats] = []
        self._chunks, self._watch, self._held, self._finish = chunks, watch, held, finish
        self._mp4: FragmentedMp4 | None = FragmentedMp4(audio, fps, tags)
        self._gops = GopSpool()
        self._first: bytes | None = None
        self._step: asyncio.Task[bytes | None] | None = None
        self._file: asyncio.Task[None] | None = None
        self._closed = False
        self._at_end: Callable[[], object] | None = None

    def on_end(self, call: Callable[[], object]) -> None:
        """`call()` once the file is stored, or the render has failed or was stopped."""
        self._at_end = call

    @property
    def samples(self) -> Floats:
        """[n] the speech at 16 kHz, mono, in [-1, 1]; for people to look at."""
        return self.audio.samples

    @property
    def motion(self) -> Floats:
        """[n, 20] motion of the frames so far, at `fps`."""
        return np.concatenate(self._motion) if self._motion else np.zeros((0, 20), np.float32)

    @property
    def opening(self) -> Floats:
        """[n] mouth opening of those frames, in spreads of the training set."""
        return np.concatenate(self._opening) if self._opening else np.zeros(0, np.float32)

    @property
    def under_way(self) -> bool:
        """Whether the file may still come: False once it is stored, or never will be."""
        return not self._closed and (self._file is None or not self._file.done())

    async def begin(self) -> None:
        """Makes the first piece now, so that what goes wrong early can still be answered with a status.

        Raises what the stages raise.
        """
        if self._first is None and self._file is None:
            self._first = await self._next()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the MP4, a fragment as soon as its chunk is painted. One reader."""
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            piece, self._first = self._first, None
            if piece is None:
                piece = await self._next()
            if piece is None:
                return
            yield piece

    async def finished(self) -> str:
        """Reads what is left of the stream, waits until the signed file is stored, and gives its `file_url`."""
        async for _ in self:
            pass
        if self._file is None:
            raise Cancelled("the render was stopped")
        await asyncio.shield(self._file)
        return self.file_url

    async def stored(self) -> None:
        """Waits until the file is stored, where the stream has been read to its end; raises nothing."""
        if self._file is not None:
            await asyncio.wait([self._file])

    async def close(self) -> None:
        """Stop: no further stage call is made, the slot is free. After the end of the stream it does nothing."""
        if self._closed or self._file is not None:
            return
        self._closed = True
        if self._step is not None and not self._step.done():
            self._step.cancel()
            await asyncio.wait([self._step])
        await self._end(Cancelled("the reader has gone"))

    async def __aenter__(self) -> RenderStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _next(self) -> bytes | None:
        """The next piece; None after the last. A task of its own, so that `close` can end it from elsewhere."""
        if self._closed:
            raise Cancelled("the render was stopped")
        if self._file is not None:
            return None
        self._step = asyncio.create_task(self._advance())
        try:
            return await self._step
        except BaseException as error:
            if self._closed and isinstance(error, asyncio.CancelledError):
                raise Cancelled("the render was stopped") from None
            self._closed = True
            await self._end(error)
            raise

    async def _advance(self) -> bytes | None:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            assert self._mp4 is not None
            self._mp4.finish()
            await self._held.aclose()
            self._watch.end("finished")
            self._file = asyncio.create_task(self._finish(self, self._gops))
            self._file.add_done_callback(lambda _: self._over())
            return None
        piece = await asyncio.to_thread(self._fragment, chunk)
        self._motion.append(chunk.motion)
        self._opening.append(chunk.opening)
        self.frames += chunk.frames
        self._watch.chunk(chunk.frames, self.fps)
        return piece

    def _fragment(self, chunk: Chunk) -> bytes:
        mp4 = self._mp4
        assert mp4 is not None
        self._gops.add(chunk.gop)
        return mp4.add(chunk.gop)

    async def _end(self, error: BaseException) -> None:
        """Give everything back after a failure or a stop."""
        try:
            await self._chunks.aclose()
        finally:
            await self._held.aclose()
            self._watch.end(outcome_of(error))
            self._gops.close()
            self._over()

    def _over(self) -> None:
        """Nothing follows. Whatever leads back here is let go: encoders with their threads, and files, go now that
        way, and not when the garbage collector comes by.
        """
        call, self._at_end, self._mp4, self._step = self._at_end, None, None, None
        if call is not None:
            call()
