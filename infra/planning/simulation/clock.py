"""Simulated time for the code of the jobs package."""

from __future__ import annotations

import random

import simpy

START = 1_799_971_200.0
"""Simulated time at which every simulation begins: a midnight, UTC; seconds since 1970."""


class SimClock:
    """`jobs.clock.Clock` over a simulation; whatever is called at one instant must not wait."""

    def __init__(self, env: simpy.Environment, chance: random.Random) -> None:
        self._env, self.chance = env, chance

    def now(self) -> float:
        return START + float(self._env.now)

    def monotonic(self) -> float:
        return float(self._env.now)

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s inside of one simulated instant")
