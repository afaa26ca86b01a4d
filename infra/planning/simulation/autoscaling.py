"""The stages' replicas follow the load, as Serve and the service's own policy have it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any

import simpy

from ifmdm_core.storage import Storage
from infra.planning.simulation.clock import SimClock
from infra.planning.simulation.machines import Machines
from infra.planning.simulation.serve_rules import ServeRules
from serve.config import Scaling
from serve.scaling import REFRESH_S, BacklogSnapshot, LoadAndBacklog

DECIDES_S = 1.0
"""Between two decisions of Serve's controller, about."""


class Autoscaler:
    """Scales one stage.

    Args:
        service: where job workers write how many jobs wait.
    """

    def __init__(
        self, env: simpy.Environment, clock: SimClock, machines: Machines, scaling: Scaling, service: Storage
    ) -> None:
        self._env, self._machines, self._scaling = env, machines, scaling
        policy = None
        if scaling.backlog is not None:
            self._snapshot = BacklogSnapshot(service, clock.monotonic, follows=False)
            policy = LoadAndBacklog(str(service.root), scaling.backlog, self._snapshot)
            env.process(self._look_on())
        self._rules = ServeRules(machines.stage.name, scaling, policy)
        self._seen: deque[tuple[float, int]] = deque()
        env.process(self._decide_on())

    def _look_on(self) -> Generator[simpy.Event, Any, None]:
        while True:
            self._snapshot.look()
            yield self._env.timeout(REFRESH_S)

    def _decide_on(self) -> Generator[simpy.Event, Any, None]:
        env, machines, measured_at = self._env, self._machines, -self._scaling.interval_s
        while True:
            now = float(env.now)
            if now - measured_at >= self._scaling.interval_s:
                measured_at = now
                self._seen.append((now, machines.stage.ongoing))
            while self._seen and now - self._seen[0][0] > self._scaling.look_back_s:
                self._seen.popleft()
            ongoing = sum(count for _, count in self._seen) / len(self._seen)
            target = self._rules.decide(now, machines.running, machines.target, ongoing)
            if target != machines.target:
                machines.want(target)
            yield env.timeout(DECIDES_S)
