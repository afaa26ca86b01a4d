"""What users do to jobs that are there: cancel, suspend, resume, retry, give another priority.

Each writes a wish for the job as it was seen, puts a marker where nobody would look else, and does what the wish asks
for itself where it may; where it may not write logs, whoever meets the marker does. Asking twice is asking once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ifmdm_core.errors import BadInput, Conflict, Forbidden, Unavailable
from jobs.entries import RETRIABLE, State
from jobs.names import JobRef, Marker, WishKind
from jobs.scheduler import drop_stale, settled_wishes
from jobs.store import JobStore, JobView

ROUNDS = 10
"""Times that a job may change under the eyes of who wants something of it."""
_GOES_ON: frozenset[State] = frozenset(("queued", "running", "done"))
_POSSIBLE: dict[State, str] = {
    "queued": "it can be cancelled, suspended, reprioritized",
    "running": "it can be cancelled or suspended",
    "done": "its video is being published; wait",
    "published": "it is over; submit --new renders it again",
    "suspended": "it can be resumed or cancelled",
    **dict.fromkeys(RETRIABLE, "it can be retried"),
}


def stop(store: JobStore, ref: JobRef, how: Literal["cancel", "suspend"]) -> JobView:
    """Ends a job, or holds it back until it is resumed; the job afterwards.

    One that runs is still running then: its worker sees the wish within seconds.

    Raises NotFound, Conflict (not in this state, or somebody asked for the other one), Forbidden, Unavailable.
    """
    wanted: State = "cancelled" if how == "cancel" else "suspended"
    allowed: frozenset[State] = frozenset(("queued", "running", "suspended"))
    return _ask(store, ref, "stop", {"how": how}, allowed, wanted, lambda view: view.state.state == wanted)


def resume(store: JobStore, ref: JobRef) -> JobView:
    """Lets a suspended job wait again, at the end of the queue. Raises as `stop`."""
    allowed: frozenset[State] = frozenset(("suspended",))
    return _ask(store, ref, "resume", {}, allowed, "resumed", lambda view: view.state.state in _GOES_ON)


def retry(store: JobStore, ref: JobRef) -> JobView:
    """Takes up a job again that failed, is dead, cancelled or expired, with a clean slate. Raises as `stop`."""
    view = store.view(ref)
    if view.state.state == "expired" and not view.final:
        deadline = (view.record or store.record(ref)).job.deadline
        if deadline is not None and deadline <= store.clock.now():
            raise Conflict(f"job {ref}: its deadline {deadline:.0f} has passed", fix="submit it with another")
    return _ask(store, ref, "retry", {}, RETRIABLE, "retried", lambda view: view.state.state in _GOES_ON)


def reprioritise(store: JobStore, ref: JobRef, priority: int) -> JobView:
    """Gives a waiting job another priority; its age in the queue stays.

    Args:
        priority: -1000 to 1000.

    Raises as `stop`.
    """
    if not -1000 <= priority <= 1000:
        raise BadInput(f"priority is {priority}", fix="from -1000 to 1000")
    allowed: frozenset[State] = frozenset(("queued",))
    return _ask(
        store, ref, "priority", {"priority": priority}, allowed, "reprioritized",
        lambda view: view.state.state == "queued" and view.state.priority == priority,
    )  # fmt: skip


def _ask(
    store: JobStore,
    ref: JobRef,
    kind: WishKind,
    content: dict[str, Any],
    allowed: frozenset[State],
    done: str,
    met: Callable[[JobView], bool],
) -> JobView:
    view = store.view(ref)
    for _ in range(ROUNDS):
        if met(view) and not view.final:
            return view
        if view.final or view.state.state not in allowed:
            raise _refusal(view, done)
        ours = store.wish(ref, view.seq, kind, content)
        after = store.view(ref) if view.state.state == "running" else _settled(store, view)
        if after.seq == view.seq and not after.final:
            if not ours:
                _require_same(store, view, kind, content)
            return after  # its worker, or whoever meets the marker, does the rest
        view = after
    raise Unavailable(f"job {ref} changes all the time", fix="try again", retry_after=5.0)


def _settled(store: JobStore, view: JobView) -> JobView:
    """The job after the wish, which somebody will meet whatever becomes of us."""
    marker = Marker(view.state.rank, view.ref, view.seq)
    store.storage.put(marker.key, b"")
    try:
        after = settled_wishes(store, store.view(view.ref))
        drop_stale(store, marker, after)
    except Forbidden:
        after = store.view(view.ref)
    return after


def _require_same(store: JobStore, view: JobView, kind: WishKind, content: dict[str, Any]) -> None:
    there = store.read_wish(view.ref, view.seq, kind)
    for name, value in content.items():
        if there.get(name) != value:
            raise Conflict(
                f"job {view.ref}: {there.get('by', 'somebody')} asked for {name} {there.get(name)!r} already",
                fix="try again when that has been done",
            )


def _refusal(view: JobView, done: str) -> Conflict:
    state = view.state.state
    if view.final:
        return Conflict(
            f"job {view.ref} is {state}, and only its record is kept",
            fix="submit it with --new to render it again",
        )
    return Conflict(f"job {view.ref} is {state} and cannot be {done} now", fix=_POSSIBLE[state])
