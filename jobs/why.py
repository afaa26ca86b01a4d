"""Why a job is where it is: what it waits for, most decisive first, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ifmdm_core.errors import Conflict, Forbidden, IfmdmError, NotFound, Unavailable, Unsupported
from jobs.entries import JobRecord, JobState
from jobs.heartbeat import Beat
from jobs.listing import beats, progress_of, remaining_s
from jobs.names import JobRef, Later, Marker, Running, tenant_key
from jobs.probe import probe
from jobs.stats import HOUR_S, Times, stats
from jobs.store import JobStore, JobView
from jobs.tenants import read_policy
from jobs.timeline import clock_time

STUCK_S = 60.0
"""Seconds that a job stands first before free workers which do not take it are worth a word."""


@dataclass(frozen=True)
class Reason:
    """One answer."""

    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what


def last_hour(store: JobStore) -> Times | None:
    """How long the jobs ran that ended in the last hour. Raises Unavailable."""
    return stats(store, days=HOUR_S / 86_400).run


Pace = Callable[[JobStore], Times | None]


def why(store: JobStore, ref: JobRef, pace: Pace = last_hour) -> list[Reason]:
    """What is to be said of a job; never empty.

    Args:
        pace: how long jobs run at present.

    Raises NotFound where there is nothing of it at all, Unavailable.
    """
    try:
        view = store.view(ref)
        record = view.record or store.record(ref)
    except NotFound:
        return [_never_arrived(store, ref)]
    except (Conflict, Unsupported) as error:
        return [Reason(f"it cannot be read, and is never claimed: {error.what}", "ifmdm jobs fsck says more")]
    state = view.state
    if view.final:
        return [
            Reason(
                f"it is {state.state}, and only its record is kept", "submit it with --new to run it again"
            )
        ]
    if state.state == "queued":
        return list(_waits(store, view, record, pace))
    if state.state == "running":
        return list(_runs(store, view))
    return [_rests(view)]


def _never_arrived(store: JobStore, ref: JobRef) -> Reason:
    for item in store.storage.list(f"queue/{ref.tenant}/"):
        marker = Marker.parse(item.key)
        if marker is not None and marker.job == ref:
            return Reason(
                "its submit died before the job was whole", "submit it again: that goes on where it stopped"
            )
    raise NotFound(f"there is no job {ref}", fix="ifmdm jobs ls shows them")


def _rests(view: JobView) -> Reason:
    state = view.state
    if state.state == "suspended":
        by = view.entry.by if view.entry is not None else "a user"
        return Reason(
            f"it is suspended since {clock_time(state.ended_at)}, by {by}", "ifmdm jobs resume lets it go on"
        )
    if state.state == "done":
        return Reason(
            f"its video is made, and is being published since {clock_time(state.ended_at)}",
            "where that lasts, its output cannot be written now: the workers' logs say why",
        )
    if state.state == "published":
        return Reason(f"it is published since {clock_time(state.ended_at)}")
    fault = f": {state.fault.what}" if state.fault is not None else ""
    fix = (
        state.fault.fix
        if state.fault is not None and state.fault.fix
        else "ifmdm jobs retry takes it up again"
    )
    return Reason(f"it is {state.state} since {clock_time(state.ended_at)}{fault}", fix)


def _runs(store: JobStore, view: JobView) -> Iterator[Reason]:
    state, now, alive = view.state, store.clock.now(), beats(store)
    if view.wished("stop"):
        yield Reason("it has been asked to stop; its worker looks every few seconds")
    if state.worker not in alive:
        yield Reason(
            f"its worker {state.worker} has shown no sign of life for a minute",
            "another takes the job over as soon as one sweeps; is any running?"
            if not alive
            else "another takes it over",
        )
        return
    progress = progress_of(view, alive)
    if progress is None:
        yield Reason(f"it has just begun at {state.worker}")
        return
    left = remaining_s(view, progress, now)
    rest = "" if left is None else f", about {left:.0f} s more"
    yield Reason(f"it runs at {state.worker}: {progress.frames} of {progress.total} frames{rest}")


def _waits(store: JobStore, view: JobView, record: JobRecord, pace: Pace) -> Iterator[Reason]:
    state, now, ref = view.state, store.clock.now(), view.ref
    if view.wished("stop"):
        yield Reason("it has been asked to stop; that is done when a worker meets it")
    if record.job.deadline is not None and record.job.deadline < now:
        yield Reason(
            f"its deadline {clock_time(record.job.deadline)} has passed: it expires when a worker meets it"
        )
    if state.not_before > now:
        yield _not_yet(state)
    hints = _waiting_hints(store, view)
    if state.not_before <= now and any(isinstance(hint, Later) for hint in hints):
        yield Reason("its time has come: a worker puts it into the queue within a minute")
    if not hints:
        yield Reason(
            "it has no marker in the queue", "ifmdm jobs fsck --repair puts one; workers do so every hour"
        )
    running = sum(
        hint is not None and hint.job.tenant == ref.tenant
        for hint in (Running.parse(item.key) for item in store.storage.list("running/"))
    )
    yield from _tenant(store, ref.tenant, running)
    alive = beats(store)
    free = sum(beat.slots - len(beat.jobs) for beat in alive.values())
    if not alive:
        yield from _nobody_works(store)
    elif state.solo and not any(not beat.jobs for beat in alive.values()):
        yield Reason("it must run alone, since its last worker vanished, and no worker is idle")
    position = _position(store, ref.tenant, hints)
    if position is not None:
        yield _place(store, position, alive, free, pace)
        if position == 0 and free > 0 and now - max(state.queued_at, state.not_before) > STUCK_S:
            yield Reason(
                f"workers are free and do not take it: none may be able to render with model "
                f"{record.job.model!r} ({state.bundle[:12]}) now",
                "their logs say why; is the service up?",
            )


def _not_yet(state: JobState) -> Reason:
    when = clock_time(state.not_before)
    if state.fault is not None and state.attempts:
        return Reason(
            f"attempt {state.epoch} failed ({state.fault.what}); it is tried again at {when}", state.fault.fix
        )
    return Reason(f"it is not to be started before {when}")


def _tenant(store: JobStore, tenant: str, running: int) -> Iterator[Reason]:
    try:
        policy = read_policy(store.storage, tenant)
    except Unavailable:
        raise
    except IfmdmError as error:
        yield Reason(f"nothing of tenant {tenant!r} is started: {error.what}", error.fix)
        return
    if running >= policy.cap:
        held = "the operator holds all of its jobs back" if policy.cap == 0 else f"{running} of its jobs run"
        yield Reason(
            f"tenant {tenant!r} may run {policy.cap} at once: {held}", f"cap in {tenant_key(tenant)}"
        )


def _nobody_works(store: JobStore) -> Iterator[Reason]:
    yield Reason("no worker is alive", "ifmdm jobs work starts one")
    try:
        probe(store.storage)
    except Unsupported as error:
        yield Reason(f"no worker would start: {error.what}", error.fix)
    except (Forbidden, Unavailable):
        pass  # whoever asks may not try, or the store is busy


def _waiting_hints(store: JobStore, view: JobView) -> list[Marker | Later]:
    storage, marker = store.storage, Marker(view.state.rank, view.ref, view.seq)
    if storage.info(marker.key) is not None:
        return [marker]
    found = (Later.parse(item.key) for item in storage.list("later/"))
    return [later for later in found if later is not None and later.job == view.ref and later.seq == view.seq]


def _position(store: JobStore, tenant: str, hints: list[Marker | Later]) -> int | None:
    """How many of its tenant go first; None for a job that is in no queue."""
    marker = next((hint for hint in hints if isinstance(hint, Marker)), None)
    if marker is None:
        return None
    before = 0
    for item in store.storage.list(f"queue/{tenant}/"):
        if item.key >= marker.key:
            break
        before += 1
    return before


def _place(store: JobStore, before: int, alive: dict[str, Beat], free: int, pace: Pace) -> Reason:
    slots = sum(beat.slots for beat in alive.values())
    what = "it is next of its tenant"
    if before:
        what = f"{before} {'job' if before == 1 else 'jobs'} of its tenant {'goes' if before == 1 else 'go'} first"
    what += f"; {max(0, free)} of {slots} slots are free, at {len(alive)} workers"
    full = free <= 0
    if slots and (before or full):
        times = pace(store)
        if times is not None:
            wait = (before + full) / slots * times.p50
            what += f"; about {wait:.0f} s by the last hour's pace, more where other tenants wait"
    return Reason(what)
