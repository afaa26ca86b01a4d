"""One event loop on a thread of its own, driven from threads that must be able to stop what they wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from jobs.rendering.contract import TICK_S

Value = TypeVar("Value")

Tick = Callable[[], None]
"""Called about every TICK_S in the waiting thread; whatever it raises stops what is waited for."""


class LoopThread:
    """Runs coroutines and blocking calls for other threads, which wait and tick. Close it in the end.

    Nothing that was begun outlives the call that waits for it: a tick that raises cancels a coroutine and waits until
    it is over, and waits for a blocking call.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(thread_name_prefix="rendering-io")
        self._thread = threading.Thread(target=self._loop.run_forever, name="rendering-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Value], tick: Tick) -> Value:
        """What `work` gives, run in the loop. Raises what it, or `tick`, raises."""
        over: Future[Value] = Future()
        task: asyncio.Task[Value] | None = None

        def begin() -> None:
            nonlocal task
            task = self._loop.create_task(work)
            task.add_done_callback(lambda task: _hand_over(task, over))

        def cancel() -> None:
            if task is not None:  # always: `begin` was scheduled before
                task.cancel()

        self._loop.call_soon_threadsafe(begin)
        return _waited(over, tick, lambda: self._loop.call_soon_threadsafe(cancel))

    def call(self, work: Callable[[], Value], tick: Tick) -> Value:
        """What `work` gives, run in a thread. Raises what it, or `tick`, raises, once it is over."""
        return self.join(self.begin(work), tick)

    def join(self, begun: Future[Value], tick: Tick) -> Value:
        """The same for what was begun before."""
        return _waited(begun, tick, lambda: None)

    def begin(self, work: Callable[[], Value]) -> Future[Value]:
        """`work` in a thread, not waited for here."""
        return self._threads.submit(work)

    def each(self, values: AsyncGenerator[Value, None], tick: Tick) -> Generator[Value, None, None]:
        """The values of an asynchronous generator, which is closed with this one."""
        try:
            while True:
                try:
                    value = self.run(_next(values), tick)
                except StopAsyncIteration:
                    return
                yield value
        finally:
            self.run(_closed(values), _never)

    @contextmanager
    def entered(self, context: AbstractAsyncContextManager[Value], tick: Tick) -> Iterator[Value]:
        """An asynchronous context for a thread. How the block ends is not told to it: it holds something, no more."""
        value = self.run(_entered(context), tick)
        try:
            yield value
        finally:
            self.run(_left(context), _never)

    def close(self) -> None:
        """Ends the loop and its tasks; nobody waits for anything any more."""
        self.run(self._ended(), _never)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._threads.shutdown()

    async def _ended(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


async def _next(values: AsyncGenerator[Value, None]) -> Value:
    return await anext(values)


async def _closed(values: AsyncGenerator[Any, None]) -> None:
    await values.aclose()


async def _entered(context: AbstractAsyncContextManager[Value]) -> Value:
    return await context.__aenter__()


async def _left(context: AbstractAsyncContextManager[Any]) -> None:
    await context.__aexit__(None, None, None)


def _hand_over(task: asyncio.Task[Value], over: Future[Value]) -> None:
    if task.cancelled():
        over.cancel()
    elif (error := task.exception()) is not None:
        over.set_exception(error)
    else:
        over.set_result(task.result())


def _waited(future: Future[Value], tick: Tick, cancel: Callable[[], object]) -> Value:
    try:
        while True:
            try:
                return future.result(TICK_S)
            except TimeoutError:
                if future.done():  # just now; or it is the work's own
                    return future.result()
            tick()
    except BaseException:
        if not future.done():
            cancel()
            _settled(future)
        raise


def _settled(future: Future[Any]) -> None:
    """Returns when it is over, however it ended."""
    over = threading.Event()
    future.add_done_callback(lambda _: over.set())
    over.wait()


def _never() -> None:
    """A tick for what must not be stopped."""
