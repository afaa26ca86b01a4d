"""Stages whose every answer is added to the metrics of the attempt that asked."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from jobs.rendering.metrics import AttemptMetrics
from serve.messages import ChunkCall, Floats, IdentityRef, MotionWindow, Reply, Stages, WindowCall

Value = TypeVar("Value")


class CountedStages:
    """`stages`, for one attempt."""

    def __init__(self, stages: Stages, metrics: AttemptMetrics) -> None:
        self.facts = stages.facts
        self._stages, self._costs = stages, metrics.stages

    async def encode(self, samples: Floats) -> Reply[Floats]:
        """See `Stages.encode`."""
        return await self._counted("speech", self._stages.encode(samples))

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        """See `Stages.sample`."""
        return await self._counted("motion", self._stages.sample(call))

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        """See `Stages.identify`."""
        return await self._counted("decoder", self._stages.identify(identity))

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        """See `Stages.decode`."""
        return await self._counted("decoder", self._stages.decode(call))

    async def _counted(self, stage: str, answer: Awaitable[Reply[Value]]) -> Reply[Value]:
        reply = await answer
        self._costs[stage].add(reply.seconds, reply.waited, reply.batch)
        return reply
