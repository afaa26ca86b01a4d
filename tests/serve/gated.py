"""Stages that stop before a chunk until they are let go on, and count what they were asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable

from serve.messages import ChunkCall, Floats, IdentityRef, MotionWindow, Reply, Stages, WindowCall

WAIT_S = 60.0


class GatedStages:
    """`stages`, whose `decode` waits at chunks from `first_held` on until `gate` is set (or the call is cancelled)."""

    def __init__(self, stages: Stages, first_held: int) -> None:
        self.facts, self._stages, self._first_held = stages.facts, stages, first_held
        self.gate = threading.Event()
        self.calls: Counter[str] = Counter()
        self.cancelled = 0

    async def encode(self, samples: Floats) -> Reply[Floats]:
        self.calls["encode"] += 1
        return await self._stages.encode(samples)

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        self.calls["sample"] += 1
        return await self._stages.sample(call)

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        return await self._stages.identify(identity)

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        number = call.first_frame // self.facts.chunk
        self.calls["decode"] += 1
        try:
            while number >= self._first_held and not self.gate.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await self._stages.decode(call)


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
