"""A scenario from its beginning to its end, and what came of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import Any

import simpy

from ifmdm_core.storage.memory import Bucket, MemoryStorage
from infra.planning.rates import Rates
from infra.planning.s3_costs import PER_JOB, PER_WORKER_DAY
from infra.planning.simulation.autoscaling import Autoscaler
from infra.planning.simulation.book import Book
from infra.planning.simulation.machines import Machines
from infra.planning.simulation.recorder import Recorder
from infra.planning.simulation.renders import Grain, Work, work_of
from infra.planning.simulation.scenario import Scenario, StagePlan
from infra.planning.simulation.stages import Stage
from infra.planning.simulation.worker_nodes import WorkerNodes
from infra.planning.simulation.workers import Ears, SimWorker
from infra.planning.workload import DAY_S, PlannedJob, arrivals, speech_seconds
from jobs.running.errands import tell_backlog
from jobs.tenants import TenantPolicy

LINES = 288
"""Of the series, over the whole time."""
DRAIN_S = 6 * 3600.0
"""Longest that is simulated after the last job was submitted."""


class Day:
    """One simulation; `run` it once."""

    def __init__(
        self, scenario: Scenario, rates: Rates, say: Callable[[float], None] = lambda part: None
    ) -> None:
        self.scenario = scenario = scenario.smaller()
        self._rates, self._say = rates, say
        self._grain = Grain(scenario.chunk, scenario.window)
        self._of(
            PlannedJob("", scenario.speech_s, scenario.steps, scenario.size)
        )  # a size without rates is said now
        self.env = env = simpy.Environment()
        self._chance = random.Random(scenario.seed)
        policies = {tenant.name: TenantPolicy(weight=tenant.weight) for tenant in scenario.tenants}
        self.book = Book(env, self._own_chance(), policies)
        self.recorder = Recorder()
        service = MemoryStorage(Bucket("service", self.book.clock.now))
        self.plans: dict[str, StagePlan] = {
            name: getattr(scenario, name) for name in ("speech", "motion", "decoder")
        }
        self.stages = {name: Stage(env, name, plan.speed) for name, plan in self.plans.items()}
        self.machines = {
            name: Machines(env, stage, self.plans[name], scenario, self._own_chance())
            for name, stage in self.stages.items()
        }
        operator = self.book.store("operator")
        ears = Ears(
            lambda ref, epoch: self.recorder.claim(ref, epoch, self.now),
            self._published,
            lambda: tell_backlog(operator, service),
        )

        def worker(name: str) -> SimWorker:
            return SimWorker(
                env,
                self.book,
                self.stages,
                self._of,
                ears,
                name,
                scenario.workers.slots,
                rates.claim.seconds(),
            )

        self.nodes = WorkerNodes(env, scenario, self._own_chance(), worker)
        for name, plan in self.plans.items():
            Autoscaler(env, self.book.clock, self.machines[name], plan.scaling, service)
        self._busy = dict.fromkeys(self.stages, 0.0)
        self._replica_s, self._looked_at = dict.fromkeys(self.stages, 0.0), 0.0
        self._over = env.event()
        env.process(self._submit_all())
        env.process(self._watch())

    @property
    def now(self) -> float:
        return float(self.env.now)

    def run(self) -> dict[str, Any]:
        """All of it; plain data. The same for the same scenario and rates."""
        self.env.run(until=self._over)
        self._look()
        hours, jobs = self.now / 3600, self.recorder.published
        requests = PER_JOB.times(jobs).plus(
            PER_WORKER_DAY.times(self.scenario.workers.count * self.now / DAY_S)
        )
        dollars = {
            **{name: machines.dollars for name, machines in self.machines.items()},
            "workers": self.nodes.dollars, "S3 requests": requests.dollars,
        }  # fmt: skip
        total = sum(dollars.values())
        return {
            "hours": round(hours, 3),
            **self.recorder.summary(),
            "drained": self.recorder.published == self.recorder.submitted,
            "stages": {name: self._stage_summary(name) for name in self.stages},
            "workers_lost": self.nodes.lost,
            "dollars": {name: round(value, 2) for name, value in dollars.items()},
            "dollars_total": round(total, 2),
            "dollars_per_1000": round(1000 * total / jobs, 4) if jobs else None,
            "series": self.recorder.series,
        }

    def _own_chance(self) -> random.Random:
        """So that one part's draws do not change another's."""
        return random.Random(self._chance.getrandbits(64))

    def _of(self, job: PlannedJob) -> Work:
        return work_of(job, self._rates, self._grain)

    def _published(self, ref: Any) -> None:
        self.recorder.publish(ref, self.now)
        self.book.forget(ref)

    def _submit_all(self) -> Generator[simpy.Event, Any, None]:
        scenario, lengths = self.scenario, self._own_chance()
        seconds = scenario.hours * 3600
        for at, tenant in arrivals(scenario.tenants, scenario.renders_per_day, seconds, self._own_chance()):
            yield self.env.timeout(max(0.0, at - self.env.now))
            spoken = speech_seconds(scenario.speech_s, scenario.speech_spread, lengths)
            planned = PlannedJob(tenant, spoken, scenario.steps, scenario.size)
            self.recorder.submit(self.book.enter(planned), self.now)
        yield self.env.timeout(max(0.0, seconds - self.env.now))
        until = self.env.now + DRAIN_S
        while self.recorder.published < self.recorder.submitted and self.env.now < until:
            yield self.env.timeout(10.0)
        self._over.succeed()

    def _watch(self) -> Generator[simpy.Event, Any, None]:
        every = self.scenario.hours * 3600 / LINES
        while True:
            yield self.env.timeout(every)
            self._look()
            self._say(self.now / (self.scenario.hours * 3600))

    def _look(self) -> None:
        passed, self._looked_at = self.now - self._looked_at, self.now
        if not passed:
            return
        figures: dict[str, Any] = {"running": self.nodes.running, "dollars": 0.0}
        for name, stage in self.stages.items():
            machines = self.machines[name]
            replica_s, busy_s = stage.replica_seconds(), stage.busy_s
            had = replica_s - self._replica_s[name]
            figures[name] = {
                "replicas": machines.running, "wanted": machines.target, "nodes": len(machines.nodes),
                "used": round((busy_s - self._busy[name]) / had, 4) if had else 0.0,
                "lost_nodes": sum(machines.lost.values()),
            }  # fmt: skip
            self._replica_s[name], self._busy[name] = replica_s, busy_s
            figures["dollars"] += machines.dollars
        figures["dollars"] = round(figures["dollars"] + self.nodes.dollars, 2)
        self.recorder.line(self.now, figures)

    def _stage_summary(self, name: str) -> dict[str, Any]:
        stage, machines = self.stages[name], self.machines[name]
        replica_s = stage.replica_seconds()
        return {
            "used": round(stage.busy_s / replica_s, 4) if replica_s else 0.0,
            "replicas_mean": round(replica_s / self.now, 2),
            "replicas_most": max(line[name]["replicas"] for line in self.recorder.series),
            "calls_lost": stage.lost, "nodes_lost": machines.lost,
        }  # fmt: skip


def simulate(
    scenario: Scenario, rates: Rates, say: Callable[[float], None] = lambda part: None
) -> dict[str, Any]:
    """Runs a scenario; plain data: counts, waits by tenant, use and replicas of stages, cost, and a series over time.

    Args:
        say: told the part of the time that has passed, now and then.

    Raises BadInput for a size that was not measured.
    """
    return Day(scenario, rates, say).run()
