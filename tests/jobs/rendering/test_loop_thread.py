"""Work in a loop and in threads for somebody who must be able to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from jobs.rendering import loop_thread
from jobs.rendering.loop_thread import LoopThread


class Enough(Exception):
    """Raised by a tick."""


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopThread]:
    monkeypatch.setattr(loop_thread, "TICK_S", 0.01)
    loop = LoopThread()
    yield loop
    loop.close()


def nothing() -> None:
    pass


def enough() -> None:
    raise Enough


async def answer(value: int) -> int:
    await asyncio.sleep(0.03)
    return value


async def failing(error: Exception) -> None:
    raise error


def test_values_and_errors_come_out(loop: LoopThread) -> None:
    ticks: list[None] = []
    assert loop.run(answer(3), lambda: ticks.append(None)) == 3
    assert ticks
    assert loop.call(lambda: 4, nothing) == 4
    for error in (ValueError("mine"), TimeoutError("mine too")):
        with pytest.raises(type(error), match="mine"):
            loop.run(failing(error), nothing)


def test_a_tick_that_raises_cancels_and_waits_for_the_end(loop: LoopThread) -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended.append("slowly")

    with pytest.raises(Enough):
        loop.run(endless(), enough)
    assert ended == ["slowly"]


def test_a_blocking_call_is_waited_for(loop: LoopThread) -> None:
    ended, may = [], threading.Event()

    def stop() -> None:
        may.set()
        raise Enough

    def blocking() -> None:
        may.wait()
        ended.append(True)

    with pytest.raises(Enough):
        loop.call(blocking, stop)
    assert ended == [True]


def test_a_generator_is_closed_with_its_reader(loop: LoopThread) -> None:
    closed: list[str] = []

    async def numbers(name: str) -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                yield number
            await asyncio.Event().wait() if name == "stuck" else None
        finally:
            closed.append(name)

    assert list(loop.each(numbers("whole"), nothing)) == [0, 1, 2]
    with closing(loop.each(numbers("half"), nothing)) as values:
        assert next(values) == 0
    with closing(loop.each(numbers("stuck"), enough)) as values, pytest.raises(Enough):
        list(values)
    assert closed == ["whole", "half", "stuck"]


def test_a_context_is_left_however_the_block_ends(loop: LoopThread) -> None:
    state: list[str] = []

    @asynccontextmanager
    async def held() -> AsyncIterator[int]:
        state.append("in")
        try:
            yield 5
        finally:
            state.append("out")

    with loop.entered(held(), nothing) as value:
        assert value == 5
    with pytest.raises(Enough), loop.entered(held(), nothing):
        raise Enough
    assert state == ["in", "out"] * 2
