"""A job's life: log entries, the state they fold to, and every step from one state to the next.

Pure functions of the last state; who may append them, and where, is the scheduler's and the worker's matter.

    queued ─claim→ running ─┬ done → published | failed(conflict)
       ↑                    ├ released → queued
       │                    ├ lost → queued (alone) | dead
       │                    ├ failed → queued (later) | failed | dead
       │                    └ cancelled | suspended | expired
       └── resume, retry ── suspended, failed, dead, cancelled, expired
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import IfmdmError, JobOutcome
from jobs.names import JobRef, rank
from jobs.spec import RenderJob

LAYOUT = 1
"""Version of everything in a store; another one is refused by name."""
MAX_LOSSES = 5
"""Times that a job's worker may vanish before the job is dead; counted anew once it got further than ever."""
MAX_SOLO_LOSSES = 2
"""Of these, while nothing else ran in that worker: then it is the job that kills it."""
BUG_RETRIES = 2
"""Further tries after a fault of our own."""
NOT_FOUND_PAUSE_S = 60.0
BACKOFF_S, BACKOFF_MOST_S = 10.0, 600.0
"""Pause after the first transient failure, doubled with each further one, and the longest."""

State = Literal[
    "queued", "running", "done", "published", "failed", "dead", "cancelled", "expired", "suspended"
]
Kind = Literal[
    "queued", "claimed", "done", "published", "failed", "released", "lost", "cancelled", "suspended", "expired",
    "closed",
]  # fmt: skip
"""What an entry tells; `closed` is the last of all: the job is being cleaned up, its state stays."""
TERMINAL: frozenset[State] = frozenset(("published", "failed", "dead", "cancelled", "expired"))
"""Nothing more happens by itself."""
RETRIABLE: frozenset[State] = frozenset(("failed", "dead", "cancelled", "expired"))
"""What `retry` takes up again."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Record):
    """Why it failed, as the user reads it."""

    kind: str
    """Class of `ifmdm_core.errors`."""
    outcome: JobOutcome
    what: str
    fix: str = ""
    field: str = ""
    """Of the job, dotted, where it is about one."""

    @classmethod
    def of(cls, error: IfmdmError) -> Fault:
        return cls(
            kind=type(error).__name__, outcome=error.job, what=error.what, fix=error.fix, field=error.field
        )


class Video(_Record):
    """What a finished attempt made."""

    epoch: int
    key: str
    """In the job store."""
    sha256: str
    size: int
    """bytes"""
    frames: int
    fps: int


class JobState(_Record):
    """What the log says so far; every entry repeats it whole."""

    state: State
    priority: int
    rank: str
    queued_at: float
    """Seconds since 1970 at which it was last put into the queue."""
    bundle: str
    """sha256 of the model's bundle.json."""
    epoch: int = 0
    """Number of the last attempt, from 1."""
    attempts: int = 0
    """Attempts that failed; lost and released ones do not count."""
    losses: int = 0
    solo_losses: int = 0
    bugs: int = 0
    missing: int = 0
    """Times that an input was not found."""
    solo: bool = False
    """The next attempt, or the running one, shares its worker with no other job."""
    best_frames: int = 0
    """Most frames any attempt has reached."""
    not_before: float = 0.0
    """Seconds since 1970 before which it is not started."""
    worker: str | None = None
    """Of the last attempt."""
    started_at: float | None = None
    """When the last attempt began."""
    ended_at: float | None = None
    fault: Fault | None = None
    """Of the last attempt that failed."""
    video: Video | None = None
    busy_s: dict[str, float] = Field(default_factory=dict)
    """Seconds of work by stage, all attempts whose end is known."""

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def resting(self) -> bool:
        """Nothing more happens until a user does something."""
        return self.terminal or self.state == "suspended"


class Pinned(_Record):
    """The version of an input that was meant."""

    etag: str
    size: int
    """bytes"""


class JobRecord(_Record):
    """spec.json: the job as accepted."""

    layout: Literal[1] = 1
    tenant: str
    id: str
    nonce: str
    submitted_at: float
    digest: str
    """See `RenderJob.digest`."""
    bundle_uri: str
    bundle: str
    holder: int
    """Which right to publish at the output this job has; see `names.output_holder`."""
    inputs: dict[str, Pinned]
    given: list[str]
    """Fields that the user set."""
    job: RenderJob

    @property
    def ref(self) -> JobRef:
        return JobRef(self.tenant, self.id)

    def initial(self) -> JobState:
        """The state before any entry."""
        job = self.job
        return JobState(
            state="queued",
            priority=job.priority,
            rank=rank(self.submitted_at, job.priority),
            queued_at=self.submitted_at,
            bundle=self.bundle,
            not_before=job.not_before or 0.0,
        )


class Entry(_Record):
    """log/<seq>.json"""

    layout: Literal[1] = 1
    seq: int
    kind: Kind
    at: float
    """Seconds since 1970 by whoever wrote it: for people, not for decisions."""
    by: str
    """Worker, sweeper or user."""
    nonce: str
    state: JobState


def claimed(state: JobState, worker: str, at: float) -> JobState:
    """A worker takes the job."""
    return _changed(
        state, state="running", epoch=state.epoch + 1, worker=worker, started_at=at, ended_at=None
    )


def done(state: JobState, video: Video, busy_s: dict[str, float], at: float) -> JobState:
    """The video is made, and lies in the attempt's folder."""
    best = max(state.best_frames, video.frames)
    return _changed(
        _worked(state, busy_s), state="done", video=video, best_frames=best, ended_at=at, fault=None
    )


def published(state: JobState) -> JobState:
    """The video is, or was, at the job's output. From now on that belongs to the user."""
    return _changed(state, state="published")


def not_published(state: JobState, fault: Fault) -> JobState:
    """The video cannot go to the output."""
    return _changed(state, state="failed", fault=fault)


def released(state: JobState, frames: int, busy_s: dict[str, float], at: float) -> JobState:
    """The worker gives it back, for no fault of the job's."""
    best = max(state.best_frames, frames)
    return _changed(_worked(state, busy_s), state="queued", best_frames=best, not_before=0.0, ended_at=at)


def lost(state: JobState, frames: int, at: float) -> JobState:
    """The worker has vanished, or stands still; it had reached `frames`."""
    further = frames > state.best_frames
    losses = (0 if further else state.losses) + 1
    solo_losses = (0 if further else state.solo_losses) + (1 if state.solo else 0)
    state = _changed(
        state, losses=losses, solo_losses=solo_losses, best_frames=max(frames, state.best_frames), solo=True,
        ended_at=at, not_before=0.0,
    )  # fmt: skip
    if losses < MAX_LOSSES and solo_losses < MAX_SOLO_LOSSES:
        return _changed(state, state="queued")
    how = (
        "twice while it ran alone"
        if solo_losses >= MAX_SOLO_LOSSES
        else f"{losses} times without getting further"
    )
    fault = Fault(
        kind="Lost", outcome="bug", what=f"its worker vanished {how}",
        fix="look at its log (ifmdm jobs logs); ifmdm jobs retry takes it up again",
    )  # fmt: skip
    return _changed(state, state="dead", fault=fault)


def failed(
    state: JobState, fault: Fault, max_attempts: int, frames: int, busy_s: dict[str, float], at: float
) -> JobState:
    """An attempt failed: tried again later, or given up, by the kind of its fault."""
    attempts = state.attempts + 1
    bugs = state.bugs + (fault.outcome == "bug")
    missing = state.missing + (fault.outcome == "not_found")
    state = _changed(
        _worked(state, busy_s), attempts=attempts, bugs=bugs, missing=missing, fault=fault, ended_at=at,
        best_frames=max(state.best_frames, frames),
    )  # fmt: skip
    if fault.outcome == "expired":
        return _changed(state, state="expired")
    if fault.outcome == "cancelled":
        return _changed(state, state="cancelled")
    if fault.outcome == "bad_input" or missing > 1:
        return _changed(state, state="failed")
    if bugs > BUG_RETRIES or attempts >= max_attempts:
        return _changed(state, state="dead")
    pause = NOT_FOUND_PAUSE_S
    if fault.outcome != "not_found":
        pause = min(BACKOFF_MOST_S, BACKOFF_S * 2 ** (attempts - 1))
    return _changed(state, state="queued", not_before=at + pause)


def stopped(
    state: JobState,
    how: Literal["cancelled", "suspended", "expired"],
    at: float,
    busy_s: dict[str, float] | None = None,
) -> JobState:
    """A user, or its deadline, ended it."""
    return _changed(_worked(state, busy_s or {}), state=how, ended_at=at)


def queued_again(state: JobState, at: float) -> JobState:
    """Resumed or retried by a user: with a clean slate, at the end of the queue."""
    return _changed(
        state, state="queued", queued_at=at, rank=rank(at, state.priority), not_before=0.0, attempts=0, losses=0,
        solo_losses=0, bugs=0, missing=0, solo=False, ended_at=None, fault=None, video=None,
    )  # fmt: skip


def reprioritised(state: JobState, priority: int) -> JobState:
    """Another priority; its age in the queue stays."""
    return _changed(state, priority=priority, rank=rank(state.queued_at, priority))


def _worked(state: JobState, busy_s: dict[str, float]) -> JobState:
    total = {
        name: round(state.busy_s.get(name, 0.0) + busy_s.get(name, 0.0), 3)
        for name in {*state.busy_s, *busy_s}
    }
    return _changed(state, busy_s=dict(sorted(total.items())))


def _changed(before: JobState, /, **values: Any) -> JobState:
    return before.model_copy(update=values)
