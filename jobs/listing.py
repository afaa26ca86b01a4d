"""Which jobs: by state, label, tenant, age, output; found by hints, and read only as far as they are asked for.

In the order in which people look: what runs, what waits (next first), what waits for its time, what has ended or is
held back (latest first).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, get_args

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from jobs.entries import JobRecord, JobState, State
from jobs.heartbeat import Beat, JobBeat, read_beat
from jobs.names import ID_DIGITS, Ended, JobRef, Later, Marker, Running, check_id, check_tenant, day
from jobs.scan import store_time
from jobs.store import JobStore, JobView

STATES: tuple[State, ...] = get_args(State)
READERS = 16
"""Jobs read at a time."""
SORTED = 5000
"""Jobs of one day that are put in the order in which they ended; more are shown as they are listed."""
LEAST_DIGITS = 4
"""Of an id that stand for it."""
_LIVE: frozenset[State] = frozenset(("queued", "running", "done"))
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Which:
    """A choice of jobs; everything given must hold."""

    tenants: tuple[str, ...] | None = None
    """None is everybody's."""
    states: frozenset[State] = frozenset()
    """None given is any."""
    labels: dict[str, str] = field(default_factory=dict)
    output_prefix: str = ""
    text: str = ""
    """Part of the id, the output or a label's value, in any case of letters."""
    since_s: float | None = None
    """Seconds ago that its state began, at most."""
    before_s: float | None = None
    """At least."""

    def holds(self, job: Job, now: float) -> bool:
        """Whether it is one of these."""
        state, asked = job.view.state, job.record.job
        if self.states and state.state not in self.states:
            return False
        if any(asked.labels.get(name) != value for name, value in self.labels.items()):
            return False
        if not asked.output.startswith(self.output_prefix):
            return False
        if self.text:
            places = (job.record.id, asked.output, *asked.labels.values())
            if not any(self.text.lower() in place.lower() for place in places):
                return False
        age = now - since(state)
        return (self.since_s is None or age <= self.since_s) and (
            self.before_s is None or age >= self.before_s
        )


@dataclass(frozen=True)
class Job:
    """A job as people see it."""

    view: JobView
    record: JobRecord

    @property
    def ref(self) -> JobRef:
        return self.view.ref

    def summary(self) -> dict[str, Any]:
        """Plain data, for machines."""
        state, asked = self.view.state, self.record.job
        return {
            "id": self.record.id,
            "tenant": self.record.tenant,
            "state": state.state,
            "since": since(state),
            "output": asked.output,
            "labels": asked.labels,
            "priority": state.priority,
            "submitted_at": self.record.submitted_at,
            "queued_at": state.queued_at,
            "not_before": state.not_before or None,
            "deadline": asked.deadline,
            "started_at": state.started_at,
            "ended_at": state.ended_at,
            "worker": state.worker,
            "epoch": state.epoch,
            "attempts": state.attempts,
            "losses": state.losses,
            "fault": state.fault.model_dump(mode="json") if state.fault else None,
            "video": state.video.model_dump(mode="json") if state.video else None,
            "busy_s": state.busy_s,
            "stopping": self.view.wished("stop") and not state.resting,
            "record_only": self.view.final,
        }


def since(state: JobState) -> float:
    """When its state began, seconds since 1970."""
    if state.state == "queued":
        return state.queued_at
    at = state.started_at if state.state == "running" else state.ended_at
    return at if at is not None else state.queued_at


def find(
    store: JobStore, which: Which, read: Callable[[JobStore, JobRef], Job] | None = None
) -> Iterator[Job]:
    """Jobs, one by one; hardly more are read than the reader takes. Damaged ones are passed over: see fsck.

    Args:
        read: other than `read_job`, for who keeps some.

    Raises Unavailable, Forbidden.
    """
    now, one = store.clock.now(), read or read_job

    def tried(ref: JobRef) -> Job | None:
        try:
            return one(store, ref)
        except (NotFound, Conflict, Unsupported):
            return None

    refs = _once(candidates(store, which))
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        while batch := list(itertools.islice(refs, READERS)):
            yield from (job for job in pool.map(tried, batch) if job is not None and which.holds(job, now))


def read_job(store: JobStore, ref: JobRef) -> Job:
    """One job. Raises NotFound, Conflict, Unsupported, Unavailable, Forbidden."""
    view = store.view(ref)
    return Job(view, view.record or store.record(ref))


def resolve(store: JobStore, tenant: str, text: str) -> JobRef:
    """The job that `text` means: its id, the first digits of it, or tenant/id. Raises NotFound, BadInput."""
    tenant, _, digits = text.rpartition("/") if "/" in text else (tenant, "", text)
    check_tenant(tenant)
    if len(digits) == ID_DIGITS:
        return JobRef(tenant, check_id(digits))
    if len(digits) < LEAST_DIGITS or set(digits) - set("0123456789abcdef"):
        raise BadInput(
            f"{text[:80]!r} is no job", fix=f"give its id, or at least {LEAST_DIGITS} digits of it"
        )
    found: set[str] = set()
    for item in store.storage.list(f"jobs/{tenant}/{digits}"):
        found.add(item.key.split("/")[2])
        if len(found) == 5:
            break
    if not found:
        raise NotFound(f"tenant {tenant!r} has no job {digits}…", fix="ifmdm jobs ls shows them")
    if len(found) > 1:
        raise BadInput(f"{digits}… are several jobs: {', '.join(sorted(found))}", fix="give more digits")
    return JobRef(tenant, check_id(found.pop()))


def candidates(store: JobStore, which: Which) -> Iterator[JobRef]:
    """Jobs that may be meant, by their hints; some twice, some not what their hint says."""
    storage, states = store.storage, which.states or frozenset(STATES)
    if states & {"running", "done"}:
        for item in storage.list("running/"):
            hint = Running.parse(item.key)
            if hint is not None and _theirs(which, hint.job):
                yield hint.job
    if "queued" in states:
        for tenant in _tenants(store, which, "queue/"):
            for item in storage.list(f"queue/{tenant}/"):
                if (marker := Marker.parse(item.key)) is not None:
                    yield marker.job
        for item in storage.list("later/"):
            later = Later.parse(item.key)
            if later is not None and _theirs(which, later.job):
                yield later.job
    if states - _LIVE:
        yield from _ended(store, which, states)


def beats(store: JobStore) -> dict[str, Beat]:
    """What the workers that are alive last said of themselves, by name. Raises Unavailable."""
    now, found = store_time(store.storage), {}
    for item in store.storage.list("workers/"):
        beat = read_beat(store.storage, item.key.removeprefix("workers/").removesuffix(".json"))
        if beat is not None and now - item.modified.timestamp() <= beat.takeover_s:
            found[beat.worker] = beat
    return found


def progress_of(view: JobView, beats: dict[str, Beat]) -> JobBeat | None:
    """How far a running job is, as far as its worker says."""
    beat = beats.get(view.state.worker or "")
    return beat.of(view.ref, view.seq) if beat is not None and view.state.state == "running" else None


def remaining_s(view: JobView, progress: JobBeat | None, now: float) -> float | None:
    """Seconds that a running job will about take yet; None where that cannot be known."""
    started = view.state.started_at
    if progress is None or started is None or progress.frames == 0:
        return None
    return max(0.0, (now - started) * (progress.total - progress.frames) / progress.frames)


def _ended(store: JobStore, which: Which, states: frozenset[State]) -> Iterator[JobRef]:
    """Those that rest, the latest first: by day, and within a day where it has not too many."""
    storage = store.storage
    tenants = _tenants(store, which, "ended/")
    days = sorted(
        ((name, tenant) for tenant in tenants for name in storage.folders(f"ended/{tenant}/")), reverse=True
    )
    first = "" if which.since_s is None else day(store.clock.now() - which.since_s - _DAY_S)  # clocks differ
    wanted = sorted(states - _LIVE)
    for name, tenant in days:
        if name < first:
            return
        items = itertools.chain.from_iterable(
            storage.list(f"ended/{tenant}/{name}/{state}/") for state in wanted
        )
        head = sorted(itertools.islice(items, SORTED), key=lambda item: item.modified, reverse=True)
        for item in itertools.chain(head, items):
            if (hint := Ended.parse(item.key)) is not None:
                yield hint.job


def _tenants(store: JobStore, which: Which, prefix: str) -> list[str]:
    return list(which.tenants) if which.tenants is not None else store.storage.folders(prefix)


def _theirs(which: Which, ref: JobRef) -> bool:
    return which.tenants is None or ref.tenant in which.tenants


def _once(refs: Iterator[JobRef]) -> Iterator[JobRef]:
    seen: set[JobRef] = set()
    for ref in refs:
        if ref not in seen:
            seen.add(ref)
            yield ref
