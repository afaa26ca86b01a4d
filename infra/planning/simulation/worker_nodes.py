"""Job workers on nodes of their own: taken away now and then, and started again somewhere else."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator
from typing import Any

import simpy

from infra.planning.simulation.machines import HOUR_S, Life
from infra.planning.simulation.scenario import Scenario
from infra.planning.simulation.workers import SimWorker


class WorkerNodes:
    """As many workers as the scenario says, but for those whose node has just gone.

    Args:
        make: starts a worker of that name.
    """

    def __init__(
        self,
        env: simpy.Environment,
        scenario: Scenario,
        chance: random.Random,
        make: Callable[[str], SimWorker],
    ) -> None:
        self._env, self._scenario, self._make = env, scenario, make
        self._life, self._names = Life(scenario.spot, chance), itertools.count()
        self.workers: list[SimWorker] = []
        self.lost = {"announced": 0, "sudden": 0}
        for _ in range(scenario.workers.count):
            env.process(self._live())

    @property
    def dollars(self) -> float:
        """Until now; a node that is being replaced is paid for too."""
        return float(self._env.now) / HOUR_S * self._scenario.workers.count * self._scenario.workers.node_hour

    @property
    def running(self) -> int:
        """Jobs under way."""
        return sum(len(worker.jobs) for worker in self.workers)

    def _live(self) -> Generator[simpy.Event, Any, None]:
        """One place for a worker, for ever."""
        while True:
            worker = self._make(f"worker.{next(self._names):05d}")
            self.workers.append(worker)
            drawn = self._life.drawn()
            if drawn is None:
                return
            until, grace = drawn
            yield self._env.timeout(until)
            if grace:
                self.lost["announced"] += 1
                worker.leave()
            else:
                self.lost["sudden"] += 1
                worker.kill()
            self.workers.remove(worker)
            yield self._env.timeout(self._scenario.node_start_s)
