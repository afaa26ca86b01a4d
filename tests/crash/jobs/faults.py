"""What goes wrong between a process and its store, drawn from the seed: request by request, and for spells."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from greenlet import getcurrent

from ifmdm_core.errors import Forbidden, Unavailable
from ifmdm_core.storage.memory import WRITES, Gate, Op
from tests.crash.jobs.hub import Actor, Hub, Killed, Process

CALM = 0.1
"""How often a request that reads, or a heartbeat, goes wrong, compared with one that writes."""
MOST = 0.3
"""Chance that nothing exceeds: somebody has to get through."""
FOCUSED, UNFOCUSED = 12.0, 0.3
"""How often it goes wrong, compared with one that writes, where the schedule is about such keys, or about others."""


@dataclass(frozen=True)
class Odds:
    """Chance of each fault for one request that writes."""

    focus: str = ""
    """Part of the keys that the schedule is about; "": all."""
    before: float = 0.0
    """Answered 503, 409 or not at all; nothing has happened."""
    after: float = 0.0
    """It happens, and is answered 503 or not at all."""
    late: float = 0.0
    """Not answered; it happens seconds later."""
    denied: float = 0.0
    """A conditional write happens, and is answered "no": a retry below us met our own first write."""
    slow: float = 0.0
    """It takes seconds; now and then longer than a takeover."""
    kill: float = 0.0
    """The process dies before or right after it."""
    pause: float = 0.0
    """The process stands still before or right after it."""
    outage: float = 0.0
    """From here on the process reaches the store for no request, for a while."""


@dataclass(frozen=True)
class Event:
    """One request, for people to read."""

    at: float
    who: str
    op: Op
    key: str
    how: str

    def __str__(self) -> str:
        return f"{self.at:10.3f} {self.who:<12} {self.op:<7} {self.key} {self.how}"


class Faults:
    """Between all processes and all buckets.

    Args:
        traced: events that are kept for people to read.

    Attributes:
        on: whether anything goes wrong at all.
        counts: faults that happened, by name.
        acting: the actor whose request takes effect right now; None between requests.
    """

    def __init__(self, hub: Hub, odds: Odds, traced: int = 4000) -> None:
        self.hub, self.odds = hub, odds
        self.on = True
        self.counts: Counter[str] = Counter()
        self.acting: Actor | None = None
        self.issued: Any = None
        """What `issuing` said when the request that takes effect right now was sent."""
        self.issuing: Callable[[Actor, Op, str], Any] = lambda actor, op, key: None
        self.seen: Callable[[Actor, Op, str, Any], None] = lambda actor, op, key, result: None
        """Told of every effect and its result."""
        self.trace: deque[Event] = deque(maxlen=traced)
        self.bound: set[str] = set()
        """Names of processes that may not write logs, nor hints of what runs."""
        self.requests = 0
        self.slow = 0
        """Requests on their way that take seconds."""
        self._chance = random.Random(f"{hub.seed} faults")
        self._out_until: dict[str, float] = {}

    def gate(self, process: Process, bucket: str) -> Gate:
        """How that process's requests to a bucket go."""

        def request(op: Op, key: str, effect: Callable[[], Any]) -> Any:
            return self._request(process, op, f"{bucket}:{key}" if bucket else key, effect)

        return request

    def _request(self, process: Process, op: Op, key: str, effect: Callable[[], Any]) -> Any:
        if process.dead:
            raise Killed
        actor = getcurrent()
        assert isinstance(actor, Actor)
        self.requests += 1
        issued = self.issuing(actor, op, key)
        at_risk = self._at_risk(op, key) if self.on else 0.0
        self._travel(process, actor, op, key, at_risk)
        if process.name in self.bound and op in WRITES and ("/log/" in key or ":running/" in key):
            self._note(actor, op, key, "403")
            raise Forbidden(f"{key} is refused")
        fault = self._drawn(op, at_risk)
        if fault is not None:
            self._happened(fault, process)
        if fault == "before":
            self._note(actor, op, key, "503")
            raise Unavailable(f"{key}: the store answered 503")
        if fault == "late":
            seconds = self._chance.choice((0.5, 3.0, 12.0, 45.0))
            self.hub.wake(lambda: self._effect(actor, op, key, effect, issued, "late"), seconds)
            self._note(actor, op, key, "no answer, not yet done")
            raise Unavailable(f"{key}: no answer")
        result = self._effect(actor, op, key, effect, issued, fault or "")
        self._interrupt(process, at_risk)
        if fault == "after":
            raise Unavailable(f"{key}: no answer")
        if fault == "denied":
            return False
        return result

    def _travel(self, process: Process, actor: Actor, op: Op, key: str, at_risk: float) -> None:
        """The way to the store: takes time, and may lead nowhere."""
        chance = self._chance
        latency = chance.expovariate(60.0)
        if self._hit(at_risk, self.odds.slow):
            latency = chance.choice((2.0, 8.0, 25.0, 100.0))
            self._happened("slow", process, latency)
            self.slow += 1
            self.hub.wake(self._arrived, latency)
        self.hub.wait(latency)
        if self._hit(at_risk, self.odds.outage):
            seconds = chance.choice((3.0, 20.0, 70.0, 150.0, 420.0))
            self._out_until[process.name] = self.hub.now + seconds
            self._happened("outage", process, seconds)
        self._interrupt(process, at_risk)
        if self.on and self._out_until.get(process.name, 0.0) > self.hub.now:
            process.troubled()
            self._note(actor, op, key, "out")
            raise Unavailable(f"{key}: the store is out of reach")

    def _arrived(self) -> None:
        self.slow -= 1

    def _effect(
        self, actor: Actor, op: Op, key: str, effect: Callable[[], Any], issued: Any, how: str
    ) -> Any:
        self.acting, self.issued = actor, issued
        try:
            result = effect()
        except Exception as error:
            self._note(actor, op, key, type(error).__name__)
            if how == "late":
                return None
            raise
        finally:
            self.acting = None
        self._note(actor, op, key, f"{how} {'' if result is None or op == 'get' else _short(result)}")
        self.seen(actor, op, key, result)
        return result

    def _at_risk(self, op: Op, key: str) -> float:
        """How often such a request goes wrong, compared with one that writes, in a schedule about everything."""
        ordinary = 1.0 if op in WRITES and ":workers/" not in key else CALM
        if not self.odds.focus:
            return ordinary
        return FOCUSED if self.odds.focus in key else UNFOCUSED * ordinary

    def _drawn(self, op: Op, at_risk: float) -> str | None:
        odds = self.odds
        if self._hit(at_risk, odds.before):
            return "before"
        if op in WRITES:
            if self._hit(at_risk, odds.after):
                return "after"
            if self._hit(at_risk, odds.late):
                return "late"
            if op in ("create", "place") and self._hit(at_risk, odds.denied):
                return "denied"
        return None

    def _interrupt(self, process: Process, at_risk: float) -> None:
        """Kills or stops the process that asks, now."""
        if self._hit(at_risk, self.odds.kill / 2):
            self._happened("kill", process)
            process.kill()
            raise Killed
        if self._hit(at_risk, self.odds.pause / 2):
            seconds = self._chance.choice((5.0, 30.0, 75.0, 150.0, 400.0))
            self._happened("pause", process, seconds)
            process.pause(seconds)
            self.hub.wait(0.0)

    def _hit(self, at_risk: float, odds: float) -> bool:
        return odds > 0.0 and at_risk > 0.0 and self._chance.random() < min(MOST, at_risk * odds)

    def _happened(self, what: str, process: Process, seconds: float = 0.0) -> None:
        self.counts[what] += 1
        if what not in ("before", "after", "denied"):  # a single request that fails is no excuse for anything
            process.troubled(seconds)
        if what in ("kill", "pause", "outage", "slow"):
            self.trace.append(Event(self.hub.now, process.name, "get", f"--- {what} {seconds or ''}", ""))

    def _note(self, actor: Actor, op: Op, key: str, how: str) -> None:
        self.trace.append(Event(self.hub.now, actor.name, op, key, how))


def _short(result: Any) -> str:
    return f"= {result!r}"[:40]
