"""One simulated cluster: buckets, workers that are started again when they die, people, and what happens to them."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from ifmdm_core.storage import Storage
from ifmdm_core.storage.memory import Bucket, MemoryStorage
from ifmdm_core.uri import Uri
from jobs.entries import LAYOUT, TERMINAL
from jobs.gc import collect
from jobs.names import STORE, tenant_key
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import ModelRef, Places, TenantPolicy
from jobs.worker import Worker
from tests.crash.jobs.faults import Faults, Odds
from tests.crash.jobs.hub import Actor, Hub, Process
from tests.crash.jobs.people import Operator, User, Wishes
from tests.crash.jobs.renderer import Script, SimRenderer
from tests.crash.jobs.watch import Watch

BUNDLES = {"one": "1" * 64, "two": "2" * 64}
RESTART_S = 30.0
"""Longest until a dead process is replaced."""


@dataclass(frozen=True)
class Plan:
    """What a schedule is made of; see `schedules.draw`."""

    seed: int
    kind: str
    odds: Odds
    workers: tuple[int, ...]
    """slots of each"""
    users: int
    jobs: tuple[tuple[str, RenderJob, Script], ...]
    """(tenant, job, what its attempts are like)"""
    policies: dict[str, TenantPolicy]
    chaos_s: float
    """simulated seconds until nothing goes wrong any more"""
    stall_s: float
    skew_s: float = 0.0
    """Clocks are wrong by up to so much, and jump within that."""
    whim_s: float | None = 60.0
    movers: bool = False
    """Whether users do little else than taking away what was published."""
    bound: bool = False
    """Whether users may write neither logs nor hints of what runs; then workers do what they wish."""
    rogue: bool = False
    leave_s: float | None = None
    """Mean seconds between two workers being told to leave."""
    operator: bool = False
    keep_s: float | None = None
    """See `Operator`."""
    mends: bool = False
    losses: tuple[float, ...] = ()
    """Seconds after the begin at which all hints are deleted."""
    page: int = 1000
    picky: bool = False
    """Whether all workers but the first know only one of the bundles."""


class SimPlaces(Places):
    """`Places` on the simulated buckets."""

    def __init__(self, storage: Callable[[Uri], Storage]) -> None:
        super().__init__()
        self._at = storage

    def _storage(self, prefix: str) -> Storage:
        return self._at(Uri.parse(prefix))


class World:
    """Everything of one schedule. Call `run` once, then judge; or `start`, and let the hub run."""

    def __init__(self, plan: Plan, traced: int = 4000) -> None:
        self.plan, self.hub = plan, Hub(plan.seed)
        self.faults = Faults(self.hub, plan.odds, traced)
        self.buckets = {name: Bucket(name, lambda: self.hub.now) for name in ("store", "media", "films")}
        self.processes: dict[str, Process] = {}
        self.wishes = Wishes()
        self.renderer = SimRenderer({}, plan.stall_s)
        self.watch = Watch(self.faults, self.buckets["store"], self.buckets["films"], self.processes)
        self.watch.stood_still = self.renderer.stood_still
        self.workers: dict[str, Worker] = {}
        self.quiet_at: float | None = None
        self._chance = random.Random(f"{plan.seed} world")
        self._chaos_until = self.hub.now + plan.chaos_s
        self._people: list[Actor] = []
        self._set_up()

    def start(self) -> None:
        """Workers, people, and what is to happen to them."""
        for number in range(len(self.plan.workers)):
            self._start_worker(number)
        mine = [self.plan.jobs[number :: self.plan.users] for number in range(self.plan.users)]
        for number, jobs in enumerate(mine):
            self._start_user(number, [(tenant, job) for tenant, job, _ in jobs])
        if self.plan.operator:
            self._start_operator()
        for after_s in self.plan.losses:
            self.hub.wake(self._lose_hints, after_s)
        self._look()
        self._jump()
        self._let_go()

    def run(self, longest_s: float, rest_s: float = 60.0) -> None:
        """From the start until all has been quiet for `rest_s`, or so long after the chaos."""
        self.start()
        end = self._chaos_until + longest_s
        logger, handler = logging.getLogger("jobs"), _Errors(self.watch)
        before, logger.propagate = (logger.propagate, logger.level), False
        logger.addHandler(handler)
        logger.setLevel(logging.ERROR)
        try:
            self.hub.run(lambda: self.hub.now > end or bool(self.watch.wrong) or self._rested(rest_s))
        finally:
            self.hub.end()
            logger.removeHandler(handler)
            logger.propagate, level = before
            logger.setLevel(level)

    def forget(self) -> None:
        """Afterwards, in a year in which nothing goes wrong: everything that has ended is cleaned up."""
        process = self._process("gc")

        def live() -> None:
            for _ in range(4):
                self.hub.now += 100 * 86_400.0
                for everything in (False, True):
                    collect(self.store(process), dry_run=False, everything=everything)

        actor = process.spawn(live, "gc")
        self.hub.run(lambda: actor.dead)

    def storage(self, process: Process, uri: Uri) -> Storage:
        """A place as a process sees it."""
        bucket = self.buckets[uri.bucket]
        return MemoryStorage(bucket, uri.path, self.faults.gate(process, uri.bucket), self.plan.page)

    def store(self, process: Process) -> JobStore:
        """The job store as a process sees it."""
        return JobStore(self.storage(process, Uri("s3", "store", "")), process.name, process.clock)

    def places(self, process: Process) -> SimPlaces:
        return SimPlaces(lambda uri: self.storage(process, uri))

    def _set_up(self) -> None:
        self.buckets["store"].write(STORE, json.dumps({"layout": LAYOUT}).encode())
        for tenant, policy in self.plan.policies.items():
            self.buckets["store"].write(tenant_key(tenant), policy.model_dump_json().encode())
        for _, job, _ in self.plan.jobs:
            for uri in (job.portrait, job.audio):
                self.buckets["media"].write(Uri.parse(uri).path, b"some media")
        etags = {
            uri: f"{self.buckets['media'].objects[Uri.parse(uri).path].etag}"
            for _, job, _ in self.plan.jobs
            for uri in (job.portrait, job.audio)
        }
        for tenant, job, script in self.plan.jobs:
            id = job.id(tenant, {"portrait": etags[job.portrait], "audio": etags[job.audio]})
            self.renderer.scripts[id] = script

    def _process(self, name: str) -> Process:
        skew = self._chance.uniform(-1, 1) * self.plan.skew_s
        process = self.processes[name] = Process(self.hub, name, skew)
        return process

    def _start_worker(self, number: int) -> None:
        process = self._process(f"w{number}.{len(self.processes)}")
        picky = self.plan.picky and number > 0
        worker = Worker(
            self.store(process), self.places(process), self.renderer.of(process), self.plan.workers[number],
            spawn=lambda job: _spawn(process, job), host=f"host{number}", stall_s=self.plan.stall_s,
            wanted=lambda bundle: not picky or bundle == BUNDLES["one"],
        )  # fmt: skip
        self.workers[process.name] = worker
        over = False
        beat = process.spawn(lambda: worker.beat_on(lambda: over), "beat")
        process.spawn(lambda: worker.sweep_on(lambda: worker.leaving), "sweep")

        def live() -> None:
            nonlocal over
            worker.work()
            over = True
            while not beat.dead:
                process.clock.sleep(0.5)
            worker.sign_off()

        self._keep_alive(process, process.spawn(live, "work"), lambda: self._start_worker(number))

    def _start_user(self, number: int, jobs: list[tuple[str, RenderJob]]) -> None:
        process = self._process(f"u{number}.{len(self.processes)}")
        if self.plan.bound:
            self.faults.bound.add(process.name)
        user = User(
            process, self.store(process), self.places(process), self.watch, self.buckets["films"], self.wishes, jobs,
            self.plan.whim_s, self.plan.rogue, self.plan.movers,
            over=lambda: not self.faults.on,
        )  # fmt: skip
        self._people.append(process.spawn(user.live, "user"))
        self._keep_alive(process, self._people[-1], lambda: self._start_user(number, jobs))

    def _start_operator(self) -> None:
        process = self._process(f"op.{len(self.processes)}")
        operator = Operator(
            process,
            self.store(process),
            self.places(process),
            self.plan.keep_s,
            self.plan.mends,
            self.plan.stall_s,
        )
        self._keep_alive(process, process.spawn(operator.live, "op"), self._start_operator)

    def _keep_alive(self, process: Process, actor: Actor, again: Callable[[], None]) -> None:
        """Starts another one some time after it has died or left."""

        def look() -> None:
            if actor.dead and (process.dead or process.name in self.workers):
                self.hub.wake(again, self._chance.uniform(0.0, RESTART_S - 5.0))
            elif not actor.dead:
                self.hub.wake(look, 5.0)

        self.hub.wake(look, 5.0)

    def _let_go(self) -> None:
        """Now and then a worker is told to leave."""
        if self.plan.leave_s is None or self.hub.now > self._chaos_until:
            return
        alive = [w for name, w in self.workers.items() if not self.processes[name].dead and not w.leaving]
        if alive and self._chance.random() < 0.7:
            self._chance.choice(alive).leaving = True
            self.faults.counts["leave"] += 1
        self.hub.wake(self._let_go, self._chance.expovariate(1 / self.plan.leave_s))

    def _jump(self) -> None:
        """Clocks are set."""
        if self.plan.skew_s:
            process = self._chance.choice(list(self.processes.values()))
            process.skew_s = self._chance.uniform(-1, 1) * self.plan.skew_s
            self.hub.wake(self._jump, self._chance.expovariate(1 / 60.0))

    def _lose_hints(self) -> None:
        store = self.buckets["store"]
        prefix = self._chance.choice(("queue/", "running/", "later/", ""))
        for folder in ("queue/", "running/", "later/"):
            if prefix in ("", folder):
                for key in list(store.under(folder)):
                    store.remove(key)
        self.faults.counts["hints lost"] += 1

    def _look(self) -> None:
        """Whether it has become quiet; ends the chaos when its time has come."""
        self.faults.on = self.hub.now < self._chaos_until
        if self._quiet():
            self.quiet_at = self.hub.now if self.quiet_at is None else self.quiet_at
        else:
            self.quiet_at = None
        self.hub.wake(self._look, 5.0)

    def _quiet(self) -> bool:
        if self.faults.on or self.faults.slow or not all(actor.dead for actor in self._people):
            return False
        if next(self.buckets["store"].under("running/"), None) is not None:
            return False
        alive = [process for process in self.processes.values() if not process.dead]
        if any(process.paused_until > self.hub.now for process in alive):
            return False
        if any(worker.jobs for name, worker in self.workers.items() if not self.processes[name].dead):
            return False
        known = [job for job in self.watch.jobs.values() if job.spec is not None]
        return all(job.state["state"] in TERMINAL or job.state["state"] == "suspended" for job in known)

    def _rested(self, rest_s: float) -> bool:
        return self.quiet_at is not None and self.hub.now - self.quiet_at >= rest_s


def _spawn(process: Process, job: Callable[[], None]) -> None:
    process.spawn(job)


class _Errors(logging.Handler):
    """What the code under test logs as an error is one."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.ERROR)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        self._watch.say(f"logged: {self.format(record)}")


def policy(tenant: str, cap: int, weight: float) -> TenantPolicy:
    """A tenant of the simulation."""
    models = {name: ModelRef(uri=f"s3://models/{name}", sha256=sha256) for name, sha256 in BUNDLES.items()}
    return TenantPolicy(
        inputs=("s3://media/",), outputs=(f"s3://films/{tenant}/",), models=models, cap=cap, weight=weight,
        webhook_hosts=("hook.example",),
    )  # fmt: skip
