"""Stages whose every call is measured: for Prometheus, and summed for the one render that makes them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable
from typing import TypeVar

from serve.messages import ChunkCall, Floats, IdentityRef, MotionWindow, Reply, Stages, WindowCall
from serve.metrics import GatewayMetrics

Value = TypeVar("Value")

MODEL_FPS = 25
SAMPLE_RATE = 16_000


class ObservedStages:
    """`stages`, watched. Make one per render: `busy_s` is what that render cost each stage."""

    def __init__(self, stages: Stages, metrics: GatewayMetrics) -> None:
        self.facts = stages.facts
        self.model = f"{stages.facts.name}@{stages.facts.digest[:8]}"
        """The label of its figures; tells two bundles of one name apart."""
        self.busy_s: dict[str, float] = defaultdict(float)
        """Working seconds so far, by stage."""
        self._stages, self._metrics = stages, metrics

    async def encode(self, samples: Floats) -> Reply[Floats]:
        """See `Stages.encode`."""
        frames = len(samples) * MODEL_FPS / SAMPLE_RATE
        return await self._watched("speech", self._stages.encode(samples), frames)

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        """See `Stages.sample`."""
        known = 0 if call.context is None else len(call.context)
        return await self._watched("motion", self._stages.sample(call), len(call.speech) - known)

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        """See `Stages.identify`."""
        return await self._watched("decoder", self._stages.identify(identity), 0)

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        """See `Stages.decode`."""
        return await self._watched("decoder", self._stages.decode(call), len(call.motion))

    async def _watched(self, stage: str, answer: Awaitable[Reply[Value]], frames: float) -> Reply[Value]:
        model = self.model
        began = time.monotonic()
        self._metrics.count("ifmdm_stage_pending_calls", 1, stage, model)
        try:
            reply = await answer
        except BaseException as error:
            self._metrics.failure(stage, model, error)
            raise
        finally:
            self._metrics.count("ifmdm_stage_pending_calls", -1, stage, model)
        self._metrics.reply(stage, model, reply, time.monotonic() - began, frames)
        self.busy_s[stage] += reply.seconds
        return reply
