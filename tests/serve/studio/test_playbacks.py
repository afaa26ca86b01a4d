"""A spool between a render and its video elements: read while it grows, by several, ended early, forgotten."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ifmdm_core.errors import BadInput, Cancelled, NotFound
from serve.studio.playbacks import KEPT, Playbacks


class Stream:
    """What a playback needs of a `RenderStream`, with pieces that come when the test says so."""

    def __init__(self) -> None:
        self.id, self.closed = secrets.token_hex(16), False
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def finished(self) -> str:
        return f"/v1/files/{self.id}"

    def give(self, *pieces: bytes | Exception | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)


def _run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


async def _ended(playback: Any) -> None:
    while not playback.ended:
        await playback.changed(1)


def test_bytes_are_there_before_the_end() -> None:
    async def test() -> None:
        stream: Any = Stream()
        playback = Playbacks().start(stream, "anna")
        reader = playback.read()
        stream.give(b"head")
        assert await anext(reader) == b"head"
        assert not playback.ended
        stream.give(b"tail", None)
        assert [piece async for piece in reader] == [b"tail"]
        assert (playback.file_url, playback.error) == (f"/v1/files/{stream.id}", None)
        assert stream.closed

    _run(test)


def test_readers_come_late_and_read_parts() -> None:
    async def test() -> None:
        stream: Any = Stream()
        playback = Playbacks().start(stream, "anna")
        stream.give(b"0123", b"4567", None)
        await _ended(playback)
        assert b"".join([piece async for piece in playback.read()]) == b"01234567"
        assert b"".join([piece async for piece in playback.read(3)]) == b"34567"
        assert b"".join([piece async for piece in playback.read(3, 6)]) == b"345"
        assert [piece async for piece in playback.read(8)] == []

    _run(test)


def test_stopping_closes_the_stream_and_frees_readers() -> None:
    async def test() -> None:
        stream: Any = Stream()
        playback = Playbacks().start(stream, "anna")
        stream.give(b"head")
        reader = playback.read()
        await anext(reader)
        await playback.stop()
        assert [piece async for piece in reader] == []
        assert isinstance(playback.error, Cancelled)
        assert stream.closed
        await playback.stop()

    _run(test)


def test_stopping_before_it_began_closes_the_stream_too() -> None:
    async def test() -> None:
        stream: Any = Stream()
        playback = Playbacks().start(stream, "anna")
        await playback.stop()
        assert playback.ended
        assert stream.closed
        assert [piece async for piece in playback.read()] == []

    _run(test)


@pytest.mark.parametrize(
    ("error", "shown"),
    [(BadInput("no face", fix="another photo"), "no face"), (ZeroDivisionError("secret"), "internal")],
)
def test_failures_end_it_and_faults_of_ours_are_not_told(error: Exception, shown: str) -> None:
    async def test() -> None:
        stream: Any = Stream()
        playback = Playbacks().start(stream, "anna")
        stream.give(error)
        await _ended(playback)
        assert shown in str(playback.error)
        assert "secret" not in str(playback.error)
        assert stream.closed

    _run(test)


def test_the_oldest_ended_ones_are_forgotten_and_running_ones_never() -> None:
    async def test() -> None:
        playbacks = Playbacks()
        running: Any = Stream()
        playbacks.start(running, "anna")
        streams: list[Any] = [Stream() for _ in range(KEPT + 2)]
        for stream in streams:
            stream.give(None)
            await _ended(playbacks.start(stream, "anna"))
        with pytest.raises(NotFound):
            playbacks.get(streams[0].id, "anna")
        kept = [running, *streams[2:]]
        assert [playbacks.get(stream.id, "anna").stream for stream in kept] == kept
        await playbacks.get(running.id, "anna").stop()

    _run(test)


def test_others_see_nothing() -> None:
    async def test() -> None:
        stream: Any = Stream()
        playbacks = Playbacks()
        playback = playbacks.start(stream, "anna")
        with pytest.raises(NotFound):
            playbacks.get(stream.id, "bert")
        await playback.stop()

    _run(test)
