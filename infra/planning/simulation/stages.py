"""One stage of a bundle: calls that wait, and replicas that work on them one at a time, the longest waiting first."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import simpy


class Call:
    """A call to a stage; `done` happens when it has been answered.

    Args:
        seconds: of work on a replica of speed 1, which does nothing else meanwhile.
        beside: seconds after that until it is answered, in which the replica takes the next call.
    """

    __slots__ = ("beside", "done", "seconds", "wanted")

    def __init__(self, env: simpy.Environment, seconds: float, beside: float) -> None:
        self.seconds, self.beside, self.wanted, self.done = seconds, beside, True, env.event()


@dataclass(eq=False)
class Replica:
    """One process that answers calls."""

    number: int
    born_at: float
    leaving: bool = False
    """It ends when it has answered the call it is at."""
    call: Call | None = None
    process: simpy.Process | None = None
    wake: simpy.Event | None = None


class Stage:
    """One stage.

    Args:
        speed: of a replica, in those that the rates were measured on.
    """

    def __init__(self, env: simpy.Environment, name: str, speed: float = 1.0) -> None:
        self._env, self.name, self._speed = env, name, speed
        self._waiting: deque[Call] = deque()
        self._idle: deque[Replica] = deque()
        self._numbers = itertools.count()
        self._gone_s = 0.0
        self.replicas: dict[int, Replica] = {}
        self.ongoing = 0
        """Calls that wait or are worked on, as Serve counts them."""
        self.busy_s = 0.0
        """Seconds of finished work, all replicas together."""
        self.lost = 0
        """Calls that a replica took with it; they go to another."""

    def call(self, seconds: float, beside: float = 0.0) -> Call:
        """Asks for so much work, see `Call`."""
        call = Call(self._env, seconds, beside)
        self.ongoing += 1
        self._waiting.append(call)
        self._wake_one()
        return call

    def replica_seconds(self) -> float:
        """Seconds that replicas were there, all of them together."""
        return self._gone_s + sum(self._env.now - replica.born_at for replica in self.replicas.values())

    def drop(self, call: Call) -> None:
        """Nobody waits for it any more."""
        if call.wanted and not call.done.triggered:
            call.wanted = False
            self.ongoing -= 1

    def add(self) -> Replica:
        """One more replica, ready now."""
        replica = Replica(next(self._numbers), float(self._env.now))
        self.replicas[replica.number] = replica
        replica.process = self._env.process(self._live(replica))
        return replica

    def leave(self, replica: Replica) -> None:
        """It takes no further call."""
        replica.leaving = True
        if replica.wake is not None and not replica.wake.triggered:
            replica.wake.succeed()

    def kill(self, replica: Replica) -> None:
        """It is gone, and the call it was at goes to another."""
        if replica.number in self.replicas and replica.process is not None and replica.process.is_alive:
            replica.process.interrupt()

    def _answer(self, call: Call, _: simpy.Event | None = None) -> None:
        if call.wanted:
            self.ongoing -= 1
            call.done.succeed()

    def _wake_one(self) -> None:
        while self._idle:
            replica = self._idle.popleft()
            if replica.number in self.replicas and replica.wake is not None and not replica.wake.triggered:
                replica.wake.succeed()
                return

    def _live(self, replica: Replica) -> Generator[simpy.Event, Any, None]:
        try:
            while not replica.leaving:
                if not self._waiting:
                    replica.wake = self._env.event()
                    self._idle.append(replica)
                    yield replica.wake
                    replica.wake = None
                    continue
                call = self._waiting.popleft()
                if not call.wanted:
                    continue
                replica.call = call
                seconds = call.seconds / self._speed
                yield self._env.timeout(seconds)
                replica.call = None
                self.busy_s += seconds
                if call.beside:
                    later = self._env.timeout(call.beside / self._speed)
                    later.callbacks.append(partial(self._answer, call))
                else:
                    self._answer(call)
        except simpy.Interrupt:
            if replica.call is not None and replica.call.wanted:
                self.lost += 1
                self._waiting.appendleft(replica.call)
                self._wake_one()
        finally:
            del self.replicas[replica.number]
            self._gone_s += self._env.now - replica.born_at
