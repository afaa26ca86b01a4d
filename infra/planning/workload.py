"""The jobs of a plan, and how they arrive over a day: by tenants with habits of their own."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from infra.planning.rates import FPS

DAY_S = 86_400.0
SPEECH_LEAST_S, SPEECH_MOST_S = 0.5, 120.0


@dataclass(frozen=True)
class PlannedJob:
    """One render."""

    tenant: str
    speech_s: float
    steps: int = 8
    size: int | None = None
    """Side of the output in pixels; None is the model's own."""

    @property
    def frames(self) -> float:
        return self.speech_s * FPS


class TenantHabits(BaseModel):
    """When one tenant's jobs come."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]{0,62}$", description="of the tenant")
    share: float = Field(gt=0, description="part of all jobs, beside the others' shares")
    weight: float = Field(1.0, gt=0, le=1000, description="share of the machines; see tenants/<t>.json")
    swing: float = Field(
        0.0, ge=0, le=1, description="0 is the same load at every hour, 1 nothing at the quietest"
    )
    peak_hour: float = Field(15.0, ge=0, lt=24, description="hour of the day with the most")
    bursts: float = Field(
        0.0, ge=0, description="bursts a day that all of its jobs come in; 0: one by one, at random"
    )
    burst_s: float = Field(300.0, gt=0, description="seconds that a burst takes to be handed in")

    def rate(self, at: float) -> float:
        """Relative to its mean, at so many seconds after midnight; bursts aside."""
        return 1 + self.swing * math.cos(2 * math.pi * (at / 3600 - self.peak_hour) / 24)


def arrivals(
    tenants: Sequence[TenantHabits], per_day: float, seconds: float, chance: random.Random
) -> Iterator[tuple[float, str]]:
    """(seconds after midnight, tenant) of every job until so many seconds have passed, in order."""
    shares = sum(tenant.share for tenant in tenants)
    streams = []
    for tenant in tenants:
        own = random.Random(chance.getrandbits(64))
        count = per_day * tenant.share / shares
        streams.append(
            _bursts(tenant, count, seconds, own) if tenant.bursts else _singly(tenant, count, seconds, own)
        )
    yield from _merged(streams, [tenant.name for tenant in tenants])


def speech_seconds(mean: float, spread: float, chance: random.Random) -> float:
    """A length of speech: log-normal about `mean`, whose logarithm has the standard deviation `spread`."""
    drawn = mean * math.exp(chance.gauss(-spread * spread / 2, spread)) if spread else mean
    return min(SPEECH_MOST_S, max(SPEECH_LEAST_S, drawn))


def _singly(tenant: TenantHabits, per_day: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """A Poisson process whose rate follows the hour, thinned from its highest rate."""
    highest = per_day / DAY_S * (1 + tenant.swing)
    at = chance.expovariate(highest)
    while at < seconds:
        if chance.random() * (1 + tenant.swing) < tenant.rate(at):
            yield at
        at += chance.expovariate(highest)


def _bursts(tenant: TenantHabits, per_day: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """Bursts of equal size, one at a random moment of each part of the day."""
    each, part = round(per_day / tenant.bursts), DAY_S / tenant.bursts
    count = math.ceil(seconds / part)
    moments: list[float] = []
    for number in range(count):
        begin = number * part + chance.random() * max(0.0, part - tenant.burst_s)
        moments += [begin + chance.random() * tenant.burst_s for _ in range(each)]
    yield from (at for at in sorted(moments) if at < seconds)


def _merged(streams: Sequence[Iterator[float]], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    def named(stream: Iterator[float], name: str) -> Iterator[tuple[float, str]]:
        return ((at, name) for at in stream)

    yield from heapq.merge(*(named(stream, name) for stream, name in zip(streams, names, strict=True)))
