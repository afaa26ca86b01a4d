"""What a frame decoder keeps of the portraits it painted last, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class AppearanceCache(Generic[Key, Value]):
    """The last used values that fit `capacity` bytes; to be used from one event loop.

    One larger than everything is given out and not kept. Memory of a value counts until it is dropped here: whoever
    still works with it holds it a little longer.

    Args:
        size: bytes that a value holds.
    """

    def __init__(self, capacity: int, size: Callable[[Value], int]) -> None:
        self.capacity, self._size = capacity, size
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._coming: dict[Key, asyncio.Task[Value]] = {}
        self.nbytes = 0
        """Bytes held now."""

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: Key, make: Callable[[], Awaitable[Value]]) -> tuple[Value, bool]:
        """The value of `key` and whether it was at hand; `make` is called once, however many ask for it meanwhile.

        Raises what `make` raises; the next one to ask tries again.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], True
        task = self._coming.get(key)
        if task is None:
            task = asyncio.ensure_future(self._make(key, make))
            self._coming[key] = task
            task.add_done_callback(lambda done: self._arrived(key, done))
        # Whoever began may give up; others wait for the same.
        return await asyncio.shield(task), False

    async def _make(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value:
        value = await make()
        self._keep(key, value)
        return value

    def _arrived(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._coming[key]
        if not task.cancelled():
            task.exception()  # looked at, also where everybody who asked has gone

    def _keep(self, key: Key, value: Value) -> None:
        size = self._size(value)
        if size > self.capacity:
            return
        self._kept[key] = value
        self.nbytes += size
        while self.nbytes > self.capacity:
            _, dropped = self._kept.popitem(last=False)
            self.nbytes -= self._size(dropped)
