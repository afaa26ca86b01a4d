"""Signs of life: workers/<id>.json, rewritten every few seconds; how far each of its jobs is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import Storage
from jobs.clock import Clock
from jobs.names import JobRef, heartbeat

TAKEOVER_S = 60.0
"""Age of a heartbeat, by the store's clock, at which its worker counts as gone, unless it says otherwise itself."""
BEATS = 6
"""Heartbeats in that time."""


@dataclass
class Progress:
    """How far one job is, in the worker that runs it."""

    seq: int
    """Of the entry that claims it."""
    frames: int = 0
    total: int = 0
    counter: int = 0
    """Rises with every sign of progress, even where `frames` does not."""

    def step(self, frames: int, total: int) -> None:
        """Something was done."""
        self.frames, self.total, self.counter = frames, total, self.counter + 1


class Stillness:
    """For how long jobs have shown no progress, as far as their worker was awake: a paused one is not to blame them.

    Args:
        most_s: most seconds that count between two looks.
    """

    def __init__(self, clock: Clock, most_s: float) -> None:
        self._clock, self._most_s = clock, most_s
        self._looked_at = clock.monotonic()
        self._seen: dict[tuple[JobRef, int], tuple[int, float]] = {}

    def look(self, jobs: Mapping[JobRef, Progress]) -> dict[JobRef, float]:
        """Seconds by job; those that are not named are forgotten."""
        now = self._clock.monotonic()
        passed, self._looked_at = min(now - self._looked_at, self._most_s), now
        seen = {}
        for ref, progress in jobs.items():
            counter, still_s = self._seen.get((ref, progress.seq), (-1, 0.0))
            still_s = still_s + passed if counter == progress.counter else 0.0
            seen[ref, progress.seq] = (progress.counter, still_s)
        self._seen = seen
        return {ref: still_s for (ref, _), (_, still_s) in seen.items()}


class JobBeat(BaseModel):
    """One job in a heartbeat."""

    seq: int
    frames: int
    total: int
    counter: int
    still_s: float = 0.0
    """Seconds for which the counter has not changed, as far as its worker was awake."""


class Beat(BaseModel):
    """workers/<id>.json"""

    model_config = ConfigDict(extra="ignore")  # a later version may say more

    layout: int = 1
    worker: str
    host: str
    slots: int
    started_at: float
    takeover_s: float = TAKEOVER_S
    """Seconds without another heartbeat after which it counts as gone."""
    jobs: dict[str, JobBeat]
    """By "<tenant>/<id>"."""

    def of(self, ref: JobRef, seq: int) -> JobBeat | None:
        """What it says of a claim."""
        found = self.jobs.get(str(ref))
        return found if found is not None and found.seq == seq else None


def write_beat(storage: Storage, beat: Beat) -> None:
    """Raises Unavailable."""
    storage.put(heartbeat(beat.worker), beat.model_dump_json().encode())


def read_beat(storage: Storage, worker: str) -> Beat | None:
    """None where there is none, or something else. Raises Unavailable."""
    try:
        return Beat.model_validate(json.loads(storage.get(heartbeat(worker))))
    except (NotFound, ValueError, ValidationError):
        return None
