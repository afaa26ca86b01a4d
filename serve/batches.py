"""Calls that wait while a replica works form its next batch, group by group.

Ray Serve's own `serve.batch` closes a batch when its wait is over, even while the one before still runs: under load
small batches queue up. It also knows no groups. Here a batch is closed at the moment the worker is free.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ifmdm_core.errors import IfmdmError

Call = TypeVar("Call")
Value = TypeVar("Value")

FAULTS = 3
"""Faults in a row, none of them a call's own, after which a replica should be replaced (a GPU can be stuck)."""


@dataclass(frozen=True)
class Done(Generic[Value]):
    """A call's value and what it cost."""

    value: Value
    seconds: float
    """Its share of the batch's working time."""
    waited: float
    """Seconds before the batch began."""
    batch: int
    """Calls in the batch."""


@dataclass(eq=False)
class _Waiting(Generic[Call, Value]):
    call: Call
    group: Hashable
    result: asyncio.Future[Done[Value]]
    since: float = field(default_factory=time.monotonic)


class Batches(Generic[Call, Value]):
    """Runs `work` on one thread, on at most `most` calls of one group at a time, the longest waiting first.

    Args:
        work: calls -> as many values. On an error the calls of a batch are tried one by one, so that a bad call
            fails alone.
        group: calls of different groups never share a batch.
        wait_s: seconds that an idle worker gives a first call to find company.
    """

    def __init__(
        self,
        work: Callable[[list[Call]], list[Value]],
        group: Callable[[Call], Hashable],
        most: int,
        wait_s: float,
    ) -> None:
        self._work, self._group, self._most, self._wait_s = work, group, most, wait_s
        self._waiting: list[_Waiting[Call, Value]] = []
        self._arrival = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "batches")
        self.faults = 0
        """Batches in a row that failed by no fault of their calls'."""

    async def run(self, call: Call) -> Done[Value]:
        """The value of `call`, and what it cost. Raises what `work` raises for it.

        A call that is cancelled while it waits is never worked on.
        """
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Call, Value] = _Waiting(call, self._group(call), loop.create_future())
        self._waiting.append(waiting)
        if self._loop is None or self._loop.done():
            self._arrival = asyncio.Event()  # of this event loop
            self._loop = loop.create_task(self._serve())
        self._arrival.set()
        return await waiting.result

    async def _serve(self) -> None:
        """Runs batches until nobody waits."""
        idle = True
        while self._drop_cancelled():
            if idle:
                await self._company()
            idle = False
            batch = self._take()
            if batch:
                await self._run(batch)

    def _drop_cancelled(self) -> bool:
        """Whether anybody still waits."""
        self._waiting = [item for item in self._waiting if not item.result.done()]
        return bool(self._waiting)

    async def _company(self) -> None:
        """Waits until the first call's batch is full, or its patience is over."""
        until = self._waiting[0].since + self._wait_s
        while len(self._peers()) < self._most and (left := until - time.monotonic()) > 0:
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), left)
            except TimeoutError:
                return

    def _peers(self) -> list[_Waiting[Call, Value]]:
        first = self._waiting[0].group
        return [item for item in self._waiting if item.group == first][: self._most]

    def _take(self) -> list[_Waiting[Call, Value]]:
        if not self._drop_cancelled():
            return []
        batch = self._peers()
        self._waiting = [item for item in self._waiting if item not in batch]
        return batch

    async def _run(self, batch: list[_Waiting[Call, Value]]) -> None:
        began = time.monotonic()
        try:
            values = await self._threaded([item.call for item in batch])
        except Exception as error:
            if len(batch) > 1:
                for item in batch:
                    await self._run([item])
                return
            self.faults = 0 if isinstance(error, IfmdmError) and error.job != "bug" else self.faults + 1
            if not batch[0].result.done():
                batch[0].result.set_exception(error)
            return
        self.faults = 0
        share = (time.monotonic() - began) / len(batch)
        for item, value in zip(batch, values, strict=True):
            if not item.result.done():
                item.result.set_result(Done(value, share, began - item.since, len(batch)))

    async def _threaded(self, calls: list[Call]) -> list[Value]:
        # Not on the event loop: health checks and new calls are answered meanwhile.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, calls)

    def check(self) -> None:
        """Raises IfmdmError when this replica should be replaced; for health checks."""
        if self.faults >= FAULTS:
            raise IfmdmError(f"{self.faults} batches in a row failed", fix="the replica is started anew")
