"""Nodes and the replicas on them: started when they are wanted, after a while; left when they are not; taken away."""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from infra.planning.simulation.scenario import Scenario, Spot, StagePlan
from infra.planning.simulation.stages import Replica, Stage

HOUR_S = 3600.0


class Life:
    """How long nodes are kept."""

    def __init__(self, spot: Spot, chance: random.Random) -> None:
        self._spot, self._chance = spot, chance

    def drawn(self) -> tuple[float, float] | None:
        """Seconds until a node's loss is announced, and from there to the loss; None for ever."""
        spot = self._spot
        if spot.mean_life_h is None:
            return None
        seconds = self._chance.expovariate(1 / (spot.mean_life_h * HOUR_S))
        return seconds, spot.grace_s if self._chance.random() < spot.with_grace else 0.0


@dataclass(eq=False)
class Node:
    """One machine of a stage."""

    room: int
    """Replicas that it can still take."""
    asked_at: float
    ready_at: float
    leaving: bool = False
    replicas: list[Replica] = field(default_factory=list)
    starting: int = 0
    """Replicas that are being started."""
    idle_since: float = math.inf


class Machines:
    """The nodes of one stage. `want` says how many replicas there are to be."""

    def __init__(
        self, env: simpy.Environment, stage: Stage, plan: StagePlan, scenario: Scenario, chance: random.Random
    ) -> None:
        self._env, self.stage, self._plan, self._scenario = env, stage, plan, scenario
        self._life = Life(scenario.spot, chance)
        self.nodes: list[Node] = []
        self.target = plan.scaling.least
        self.node_s = 0.0
        """Seconds that nodes were paid for, those that have gone."""
        self.lost = {"announced": 0, "sudden": 0}
        for _ in range(self.target):
            self._room().replicas.append(self.stage.add())
        self._env.process(self._let_go_idle())

    @property
    def running(self) -> int:
        return len(self.stage.replicas)

    @property
    def dollars(self) -> float:
        """Until now."""
        alive = sum(self._env.now - node.asked_at for node in self.nodes)
        return (self.node_s + alive) / HOUR_S * self._plan.node_hour

    def want(self, count: int) -> None:
        """So many replicas from now on."""
        self.target = count
        self._adjust()

    def _adjust(self) -> None:
        staying = [
            r
            for node in self.nodes
            for r in node.replicas
            if not r.leaving and r.number in self.stage.replicas
        ]
        there = len(staying) + sum(node.starting for node in self.nodes)
        for _ in range(self.target - there):
            self._env.process(self._start_replica())
        for replica in sorted(staying, key=lambda r: (r.call is not None, -r.number))[
            : max(0, there - self.target)
        ]:
            self.stage.leave(replica)

    def _room(self) -> Node:
        """A node with room for one more, ready or on its way; that place is taken."""
        node = next((node for node in self.nodes if node.room > 0 and not node.leaving), None)
        if node is None:
            now = float(self._env.now)
            # Those at rest are there when the simulation begins.
            ready_at = now + self._scenario.node_start_s if now > 0 else now
            node = Node(self._plan.per_node, now, ready_at)
            self.nodes.append(node)
            self._env.process(self._live(node))
        node.room -= 1
        return node

    def _start_replica(self) -> Generator[simpy.Event, Any, None]:
        node = self._room()
        node.starting += 1
        yield self._env.timeout(max(0.0, node.ready_at - self._env.now) + self._scenario.replica_start_s)
        node.starting -= 1
        if node.leaving or node not in self.nodes:
            self._adjust()
            return
        node.replicas.append(self.stage.add())
        if self.running > self.target:
            self._adjust()

    def _live(self, node: Node) -> Generator[simpy.Event, Any, None]:
        """Until it is taken away."""
        drawn = self._life.drawn()
        if drawn is None:
            return
        until, grace = drawn
        yield self._env.timeout(until)
        if node not in self.nodes:
            return
        self.lost["announced" if grace else "sudden"] += 1
        node.leaving = True
        if grace:
            for replica in node.replicas:
                self.stage.leave(replica)
            self._adjust()  # others are started while it still lives
            yield self._env.timeout(grace)
        if node in self.nodes:
            for replica in list(node.replicas):
                self.stage.kill(replica)
            self._remove(node)
            yield self._env.timeout(0)
            self._adjust()

    def _let_go_idle(self) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self._env.timeout(10.0)
            now = float(self._env.now)
            for node in list(self.nodes):
                gone = [r for r in node.replicas if r.number not in self.stage.replicas]
                for replica in gone:
                    node.replicas.remove(replica)
                    node.room += 1
                busy = bool(node.replicas or node.starting)
                node.idle_since = math.inf if busy else min(node.idle_since, now)
                if now - node.idle_since >= self._scenario.node_idle_s and not node.leaving:
                    self._remove(node)

    def _remove(self, node: Node) -> None:
        self.nodes.remove(node)
        self.node_s += self._env.now - node.asked_at
