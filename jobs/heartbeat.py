"""Signs of life: workers/<id>.json, rewritten every few seconds; how far each of its jobs is."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import Storage
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


class JobBeat(BaseModel):
    """One job in a heartbeat."""

    seq: int
    frames: int
    total: int
    counter: int


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
