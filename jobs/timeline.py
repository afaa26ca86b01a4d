"""A job's life as people read it: one line for each entry of its log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.entries import Entry, JobRecord, JobState
from jobs.store import JobStore, JobView


@dataclass(frozen=True)
class Moment:
    """One thing that happened."""

    seq: int
    kind: str
    at: float
    """Seconds since 1970, by whoever wrote it."""
    by: str
    what: str


def timeline(store: JobStore, view: JobView, record: JobRecord) -> list[Moment]:
    """All that is known, oldest first; of a job whose log has gone, how it began and ended.

    Raises Conflict for a damaged entry, NotFound where the job is cleaned up right now, Unavailable.
    """
    before = record.initial()
    by = record.nonce.rpartition(":")[0]
    moments = [Moment(0, "submitted", record.submitted_at, by, _submitted(record, before))]
    if view.final and view.entry is None:
        state = view.state
        for seq, past in enumerate(store.history(view.ref), 1):
            moments.append(Moment(seq, past.kind, past.at, past.by, _PAST.get(past.kind, past.kind)))
        if len(moments) == 1 and state.ended_at is not None:
            what = f"{state.state}{_fault(state)}; its log is kept no more"
            moments.append(Moment(1, state.state, state.ended_at, state.worker or "", what))
        return moments
    for seq in range(1, view.seq + 1):
        entry = view.entry if view.entry is not None and seq == view.seq else store.entry(view.ref, seq)
        moments.append(Moment(seq, entry.kind, entry.at, entry.by, _told(entry, before)))
        before = entry.state
    return moments


_PAST = {
    "claimed": "an attempt begins",
    "done": "video made",
    "queued": "waits again",
    "closed": "cleaned up",
}
"""Of entries that are kept no more, in short."""


def _submitted(record: JobRecord, state: JobState) -> str:
    parts = [f"submitted, model {record.job.model} ({record.bundle[:12]})"]
    if state.priority:
        parts.append(f"priority {state.priority}")
    if state.not_before:
        parts.append(f"not before {clock_time(state.not_before)}")
    return ", ".join(parts)


def _told(entry: Entry, before: JobState) -> str:
    state = entry.state
    if entry.kind == "claimed":
        return f"attempt {state.epoch} begins{', alone in its worker' if state.solo else ''}"
    if entry.kind == "done" and state.video is not None:
        video = state.video
        size = f"{video.size / 1e6:.1f} MB" if video.size >= 1e6 else f"{video.size / 1e3:.0f} kB"
        return f"video made: {video.frames} frames, {video.frames / video.fps:.1f} s, {size}"
    if entry.kind == "queued":
        return _waits_again(state, before)
    return {
        "published": "published",
        "failed": f"attempt {state.epoch} failed{_fault(state)}{_then(state)}",
        "released": f"attempt {state.epoch} given back by its worker; it waits again",
        "lost": f"attempt {state.epoch} lost: its worker vanished{_then(state)}",
        "cancelled": "cancelled",
        "suspended": "suspended",
        "expired": "its deadline passed",
        "closed": "kept long enough: being cleaned up",
    }.get(entry.kind, entry.kind)


def _waits_again(state: JobState, before: JobState) -> str:
    if before.state == "queued":
        return f"priority {state.priority}" if state.priority != before.priority else "waits on"
    return "resumed" if before.state == "suspended" else "retried, with a clean slate"


def _then(state: JobState) -> str:
    if state.state == "queued":
        return f"; tried again at {clock_time(state.not_before)}" if state.not_before else "; tried again"
    return f"; the job is {state.state}"


def _fault(state: JobState) -> str:
    return f": {state.fault.what}" if state.fault is not None else ""


def clock_time(seconds: float | None) -> str:
    """A moment for people, UTC."""
    if seconds is None:
        return "an unknown time"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
