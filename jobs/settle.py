"""What follows from the last entry of a job's log: markers, the published output, webhooks.

Done by whoever comes first. Every step may be done twice, and by two at once; the running hint goes last, so that
nothing is left undone when somebody dies on the way: the sweeper finds the hint and comes here again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jobs.entries import JobRecord, JobState
from jobs.names import Ended, JobRef, Later, Marker, Running, Webhook, day, minute
from jobs.publish import publish
from jobs.store import JobStore, JobView
from jobs.tenants import Places


def settle(
    store: JobStore, places: Places, view: JobView, hint: Running | None = None, local: Path | None = None
) -> JobView:
    """Does what the job's last entry asks for, then removes `hint`; the job afterwards.

    Does nothing for a running job, and keeps its hint.

    Args:
        local: the video of a `done` entry, where this machine still has it.

    Raises Unavailable: try again; the hint is still there.
    """
    if view.state.state == "done" and not view.final:
        record = view.record or store.record(view.ref)
        after = publish(store, places, record, view.seq, view.state, local)
        if after is None:
            view = store.view(view.ref)
        else:
            view = replace(view, seq=view.seq + 1, state=after, wishes=frozenset(), record=record, entry=None)
    if view.state.state == "running" and not view.final:
        return view
    if not view.final:
        follow(store, view.ref, view.seq, view.state, view.record)
    if hint is not None:
        store.storage.delete(hint.key)
    return view


def follow(store: JobStore, ref: JobRef, seq: int, state: JobState, record: JobRecord | None = None) -> None:
    """The hints that a job in this state has. `record` is read where it is not given and matters."""
    if state.state == "queued":
        store.storage.put(waiting_key(ref, seq, state, store.clock.now()), b"")
    elif state.resting:
        if state.terminal and (record or store.record(ref)).job.callback is not None:
            store.storage.put(Webhook(ref, seq).key, b"")
        store.storage.put(ended_hint(ref, state).key, b"")


def waiting_key(ref: JobRef, seq: int, state: JobState, now: float) -> str:
    """The marker of a queued job: in the queue, or among those to come later."""
    if state.not_before > now:
        return Later(minute(state.not_before), ref, seq).key
    return Marker(state.rank, ref, seq).key


def ended_hint(ref: JobRef, state: JobState) -> Ended:
    """The hint of a job that has ended, or is held back."""
    assert state.ended_at is not None, "every way to end says when"
    return Ended(ref, day(state.ended_at), state.state)
