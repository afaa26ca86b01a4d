"""A command that several hosts work on, undisturbed or with one host cut off in the middle of it."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.hosts.place import TIMEOUT_S, WORKERS, Place
from tests.crash.job_room import until
from tests.crash.ray_nodes import command_of

PHASES = {"extraction": ("clips", "features"), "training": ("train",), "jobs": ("work",)}
"""What a cut may come into, and the steps of each."""
TRIES = 3
"""Times a user types a command that ends with an error."""


@dataclass(frozen=True)
class Cut:
    """When a host is cut off, and for how long after it counts as lost."""

    seed: int
    phase: str
    step: str
    share: float
    """Of the step's progress, after which it happens..."""
    delay_s: float
    """...a little later."""
    down_s: float

    @classmethod
    def draw(cls, seed: int) -> Cut:
        """The cut of a seed; three seeds in a row cut all three phases."""
        chance, phase = random.Random(seed), list(PHASES)[seed % len(PHASES)]
        step = chance.choice(PHASES[phase])
        return cls(seed, phase, step, chance.uniform(0.1, 0.6), chance.uniform(0, 1), chance.uniform(0, 10))


@dataclass(frozen=True)
class Step:
    """One command, how far it is, and how a user goes on after an error.

    Args:
        whole: progress at its end.
        workers: titles of the processes that do it.
    """

    name: str
    command: tuple[str, ...]
    again: tuple[str, ...]
    progress: Callable[[], int]
    whole: int
    workers: str


def run(place: Place, step: Step, cut: Cut | None = None) -> dict[str, object]:
    """The step to its end, with the cut in it where one is given; what was seen.

    Raises AssertionError where it does not end well.
    """
    log = Path(place.folder, f"{step.name}.log")
    begun = time.monotonic()
    process = place.start(log, *step.command)
    seen = _disturb(place, step, process, cut) if cut is not None else {}
    exits = [process.wait(TIMEOUT_S)]
    while exits[-1] != 0:
        assert len(exits) < TRIES, f"{step.name} ends with {exits}: {log.read_text()[-2500:]}"
        exits.append(place.start(log, *step.again).wait(TIMEOUT_S))
    if cut is not None:
        place.ray.wait({1, *WORKERS}, TIMEOUT_S)
    return {**seen, "exits": ",".join(map(str, exits)), "seconds": round(time.monotonic() - begun, 1)}


def _disturb(place: Place, step: Step, process: subprocess.Popen[bytes], cut: Cut) -> dict[str, object]:
    wanted, busy = round(cut.share * step.whole), list[int]()

    def midway() -> bool:
        busy[:] = [host for host in WORKERS if _busy(place, host, step.workers)]
        return process.poll() is not None or (bool(busy) and step.progress() >= wanted)

    until(midway, f"{step.name} reaches {wanted} with more than host 1 at work", TIMEOUT_S)
    time.sleep(cut.delay_s)
    at = step.progress()
    late = process.poll() is not None or at == step.whole
    assert not late, f"the cut came too late: {step.name} is at {at}"
    host = random.Random(cut.seed).choice(busy)
    seen = _cut_off(place, step, process, host, cut.down_s)
    return {
        "host": host,
        "at": f"{at}/{step.whole}",
        **{name: round(value, 1) for name, value in seen.items()},
    }


def _cut_off(
    place: Place, step: Step, process: subprocess.Popen[bytes], host: int, down_s: float
) -> dict[str, float]:
    """Cut a host off, heal it `down_s` after it counted as lost, see it come back and the work go on; seconds."""
    place.network.cut(host)
    begun, seen, at = time.monotonic(), dict[str, float](), 0
    while len(seen) < 4:
        now = time.monotonic() - begun
        assert now < TIMEOUT_S, f"{step.name} on host {host}: after {now:.0f} s only {seen}"
        if "lost_s" not in seen:
            if not place.ray.alive(host):
                seen["lost_s"], at = now, step.progress()
        elif "healed_s" not in seen:
            if now > seen["lost_s"] + down_s:
                place.network.heal(host)
                seen["healed_s"] = now
        elif "back_s" not in seen and place.ray.alive(host):
            seen["back_s"] = now
        if (
            "lost_s" in seen
            and "went_on_s" not in seen
            and (step.progress() > at or process.poll() is not None)
        ):
            seen["went_on_s"] = now
        time.sleep(0.1)
    return dict(sorted(seen.items(), key=lambda one: one[1]))


def _busy(place: Place, host: int, workers: str) -> bool:
    return any(re.search(workers, command_of(pid)) for pid in place.network.pids(host))
