"""Simulated time: processes made of greenlets in one thread, of which the hub runs one at a time.

A greenlet goes on until it waits; every storage call and every sleep of the code under test waits. Which one goes on
next depends on a seed alone, so a schedule can be repeated.
"""

from __future__ import annotations

import heapq
import itertools
import random
import traceback
from collections.abc import Callable

from greenlet import getcurrent, greenlet

START = 1_800_000_000.0
"""Simulated time, by the store's clock, at which every schedule begins; seconds since 1970."""


class Killed(BaseException):
    """kill -9, as the code under test meets it: nothing of it gets to the store any more."""


class Process:
    """Greenlets that are killed and paused together, with a clock of their own."""

    def __init__(self, hub: Hub, name: str, skew_s: float = 0.0) -> None:
        self.hub, self.name, self.skew_s = hub, name, skew_s
        self.dead = False
        self.dead_at: float | None = None
        self.paused_until = 0.0
        self.troubled_at = float("-inf")
        """When something was last done to it that excuses a lost job."""
        self.clock = SimClock(self)
        self._spawned = itertools.count(1)

    def spawn(self, function: Callable[[], None], name: str = "") -> Actor:
        """Runs it beside the others."""
        actor = Actor(self, f"{self.name}/{name or next(self._spawned)}", function)
        self.hub.wake(actor, 0.0)
        return actor

    def kill(self) -> None:
        """Its greenlets meet `Killed` wherever they are, when their turn comes."""
        self.dead, self.dead_at = True, self.hub.now
        self.troubled()

    def pause(self, seconds: float) -> None:
        """kill -STOP, and kill -CONT after a while."""
        self.paused_until = max(self.paused_until, self.hub.now + seconds)
        self.troubled(seconds)

    def troubled(self, seconds: float = 0.0) -> None:
        """Something excuses what it does not get done until so much later."""
        self.troubled_at = max(self.troubled_at, self.hub.now + seconds)


class Actor(greenlet):
    """One thread of a process."""

    def __init__(self, process: Process, name: str, function: Callable[[], None]) -> None:
        super().__init__(self._run, process.hub.main)
        self.process, self.name, self._function = process, name, function

    def _run(self) -> None:
        try:
            self._function()
        except Killed:
            pass
        except Exception:
            self.process.hub.crashed.append(f"{self.name}: {traceback.format_exc()}")


class SimClock:
    """`jobs.clock.Clock` of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.chance = random.Random(f"{process.hub.seed} {process.name}")
        self._booted = self.chance.uniform(0, 1e6)

    def now(self) -> float:
        return self._process.hub.now + self._process.skew_s

    def monotonic(self) -> float:
        return self._process.hub.now - START + self._booted

    def sleep(self, seconds: float) -> None:
        self._process.hub.wait(seconds)


class Hub:
    """The order of events.

    Attributes:
        now: simulated time by the store's clock, seconds since 1970.
        crashed: exceptions that came out of a greenlet: always a fault.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = START
        self.main = getcurrent()
        self.crashed: list[str] = []
        self._chance = random.Random(f"{seed} order")
        self._events: list[tuple[float, float, int, Actor | Callable[[], None]]] = []
        self._count = itertools.count()

    def wake(self, what: Actor | Callable[[], None], seconds: float) -> None:
        """It goes on, or happens, so much later; among those of one instant a random one first."""
        event = (self.now + max(0.0, seconds), self._chance.random(), next(self._count), what)
        heapq.heappush(self._events, event)

    def wait(self, seconds: float) -> None:
        """The calling greenlet goes on so much later. Raises Killed where its process is dead."""
        actor = getcurrent()
        assert isinstance(actor, Actor)
        if not actor.process.dead:
            self.wake(actor, seconds)
            self.main.switch()
        while actor.process.paused_until > self.now and not actor.process.dead:
            self.wake(actor, actor.process.paused_until - self.now)
            self.main.switch()
        if actor.process.dead:
            raise Killed

    def run(self, until: Callable[[], bool]) -> None:
        """Lets things happen until `until()`, which is asked before every event, or nothing is left to happen."""
        while self._events and not until():
            at, _, _, what = heapq.heappop(self._events)
            self.now = max(self.now, at)
            if isinstance(what, Actor):
                what.switch()
            else:
                what()

    def end(self) -> None:
        """Kills whatever is left, so that its temporary files go."""
        left = [what for *_, what in sorted(self._events, key=lambda event: event[:3])]
        self._events.clear()
        for what in left:
            if isinstance(what, Actor):
                what.process.kill()
                while not what.dead:
                    what.switch()
