"""Renders of the Studio: each is read to its end into a spool that video elements read from, as often as they like.

A browser's video element stops reading when it has enough and asks again from the middle after a broken connection;
a `RenderStream` has one reader and goes on only while it reads. Between the two lies a temporary file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator

from ifmdm_core.errors import Cancelled, IfmdmError, NotFound
from serve.renders import RenderStream

KEPT = 16
"""Playbacks that are kept after their end; the finished files stay where they are stored."""
_PIECE = 1 << 18  # bytes

_log = logging.getLogger(__name__)


class Playback:
    """One render of the Studio. To be made and used on the event loop."""

    def __init__(self, stream: RenderStream, tenant: str) -> None:
        """Starts reading `stream`, which belongs to this from now on."""
        self.stream, self.tenant = stream, tenant
        self.size = 0
        """Bytes there so far."""
        self.ended = False
        self.error: IfmdmError | None = None
        """Why it ended early."""
        self.file_url: str | None = None
        """Of the signed file, once it is stored."""
        self._spool = tempfile.TemporaryFile(prefix="ifmdm-play-", buffering=0)  # noqa: SIM115 - closed with this
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._drain())

    async def stop(self) -> None:
        """End it within one chunk; after the end this does nothing."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self.ended:  # it had not even begun to read
            await self.stream.close()
            self.error, self.ended = Cancelled("stopped"), True
            await self._tell()

    async def changed(self, timeout_s: float) -> None:
        """Until more bytes are there or it has ended, at most `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._beyond(self.size)

    async def read(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` on, as they come, up to `end` (exclusive) or until there are no more."""
        while end is None or start < end:
            if start < self.size:
                count = min(_PIECE, (self.size if end is None else min(self.size, end)) - start)
                piece = os.pread(self._spool.fileno(), count, start)
                start += len(piece)
                yield piece
            elif self.ended:
                return
            else:
                await self._beyond(start)

    async def _drain(self) -> None:
        try:
            async with self.stream as stream:
                async for piece in stream:
                    self._spool.write(piece)
                    self.size += len(piece)
                    await self._tell()
                self.file_url = await stream.finished()
        except asyncio.CancelledError:
            self.error = Cancelled("stopped")
        except Exception as error:
            self.error = error if isinstance(error, IfmdmError) else IfmdmError("internal error")
            if self.error.http_status == 500:
                _log.exception("a render of the Studio failed")
        finally:
            self.ended = True
            await self._tell()

    async def _beyond(self, size: int) -> None:
        """Until there are more than `size` bytes or no more come."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.size > size or self.ended)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Playbacks:
    """The playbacks of one gateway replica."""

    def __init__(self) -> None:
        self._all: dict[str, Playback] = {}

    def start(self, stream: RenderStream, tenant: str) -> Playback:
        """A playback of `stream`; the oldest ended ones beyond `KEPT` are forgotten."""
        ended = [name for name, playback in self._all.items() if playback.ended]
        for name in ended[: max(0, len(ended) - KEPT + 1)]:
            del self._all[name]
        self._all[stream.id] = Playback(stream, tenant)
        return self._all[stream.id]

    def get(self, identifier: str, tenant: str) -> Playback:
        """Raises NotFound for an unknown one, another tenant's included."""
        playback = self._all.get(identifier)
        if playback is None or playback.tenant != tenant:
            raise NotFound(f"no playback {identifier[:64]!r} here", fix="render it again")
        return playback
