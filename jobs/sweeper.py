"""Brings on what somebody left undone: jobs of vanished workers, half-finished steps, jobs whose time has come.

It looks at hints only (`running/`, `later/`); `fsck` looks at every job. Any number may run at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ifmdm_core.errors import IfmdmError, NotFound, Unavailable
from jobs import entries
from jobs.heartbeat import TAKEOVER_S, Beat, JobBeat, read_beat
from jobs.names import Later, Marker, Running, heartbeat, minute
from jobs.scheduler import settled_wishes
from jobs.settle import settle
from jobs.store import JobStore, JobView
from jobs.tenants import Places

STALL_S = 600.0
"""Seconds without any progress at which a job is taken from a worker that is alive."""


@dataclass
class Swept:
    """What one pass did."""

    lost: int = 0
    """Jobs taken from workers that vanished or stood still."""
    settled: int = 0
    """Hints whose follow-up was done or found done."""
    due: int = 0
    """Jobs whose time has come."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    """A worker's heartbeat, and between which moments of our steady clock it was read: we may stand still as well."""

    beat: Beat | None
    gone: bool
    asked_at: float
    told_at: float

    def of(self, hint: Running) -> JobBeat | None:
        """What it says of a claim."""
        return self.beat.of(hint.job, hint.seq) if self.beat is not None else None


class Sweeper:
    """One sweeper; remembers what stood still since when.

    Args:
        stall_s: see STALL_S.
    """

    def __init__(self, store: JobStore, places: Places, stall_s: float = STALL_S) -> None:
        self.store, self.places, self._stall_s = store, places, stall_s
        self._counters: dict[Running, tuple[int | None, float]] = {}

    def sweep(self) -> Swept:
        """One pass. Raises Unavailable when the store does not answer; then nothing is lost but the pass."""
        swept = Swept()
        self._bring_due(swept)
        hints = [
            h for item in self.store.storage.list("running/") if (h := Running.parse(item.key)) is not None
        ]
        workers: dict[str, _Seen] = {}
        for hint in hints:
            if hint.worker not in workers:
                workers[hint.worker] = self._seen(hint.worker)
            try:
                self._hint(hint, workers[hint.worker], swept)
            except Unavailable:
                raise
            except IfmdmError as error:
                swept.problems.append(f"{hint.job}: {error}")
        self._counters = {hint: seen for hint, seen in self._counters.items() if hint in set(hints)}
        self._bury(hints)
        return swept

    def _seen(self, worker: str) -> _Seen:
        asked_at = self.store.clock.monotonic()
        beat = read_beat(self.store.storage, worker)
        told_at = self.store.clock.monotonic()
        gone = self._age(worker) > (beat.takeover_s if beat else TAKEOVER_S)
        return _Seen(beat, gone, asked_at, told_at)

    def _age(self, worker: str) -> float:
        """Seconds since its last heartbeat, by the store's clock."""
        age = self.store.storage.age(heartbeat(worker))
        return float("inf") if age is None else age

    def _hint(self, hint: Running, worker: _Seen, swept: Swept) -> None:
        stalled = self._stands_still(hint, worker)
        if not worker.gone and not stalled:
            return  # its worker does what is to be done
        try:
            view = self.store.view(hint.job)
        except NotFound:
            self.store.storage.delete(hint.key)  # nothing is left of the job
            return
        if not view.final and view.seq < hint.seq:
            # What it announces has not happened, and still may. Taking the number makes sure that it cannot any more;
            # else the hint would have to stay, and count against the tenant's cap, until somebody else does.
            view = settled_wishes(self.store, view)
            if view.seq < hint.seq:
                if view.final or view.state.state != "queued":
                    return
                self.store.append(hint.job, hint.seq, "queued", view.state)
                view = self.store.view(hint.job)
        if self._still_claims(hint, view):
            claimed_for = self.store.storage.age(hint.job.log(hint.seq))
            if not worker.gone and (claimed_for or 0.0) < self._stall_s:
                return  # the hint is of an earlier try to claim it, which came to nothing; this one is young
            beaten = worker.of(hint)
            after = entries.lost(view.state, beaten.frames if beaten else 0, self.store.clock.now())
            if self.store.append(hint.job, hint.seq + 1, "lost", after):
                swept.lost += 1
            view = self.store.view(hint.job)
        settle(self.store, self.places, view, hint)
        if not view.final and view.state.state == "running" and not self._still_claims(hint, view):
            self.store.storage.delete(hint.key)  # somebody else's now, with a hint of its own
        swept.settled += 1

    def _still_claims(self, hint: Running, view: JobView) -> bool:
        """Whether the last entry is the claim this hint speaks of."""
        return (
            not view.final
            and view.seq == hint.seq
            and view.state.state == "running"
            and view.state.worker == hint.worker
        )

    def _stands_still(self, hint: Running, worker: _Seen) -> bool:
        """Whether its progress counter has not changed for so long, by our own steady clock."""
        found = worker.of(hint)
        counter = found.counter if found is not None else None
        before = self._counters.get(hint)
        if before is None or before[0] != counter:
            self._counters[hint] = (counter, worker.told_at)
            return False
        return worker.asked_at - before[1] > self._stall_s

    def _bring_due(self, swept: Swept) -> None:
        """Jobs whose minute has come go into the queue."""
        storage = self.store.storage
        now = minute(self.store.clock.now() - 60)
        for item in storage.list("later/"):
            later = Later.parse(item.key)
            if later is None:
                continue
            if later.minute > now:
                break
            try:
                view = self.store.view(later.job)
            except NotFound:
                age = storage.age(later.key)
                if age is not None and age > 3600:
                    storage.delete(later.key)
                continue
            except Unavailable:
                raise
            except IfmdmError as error:
                swept.problems.append(f"{later.job}: {error}")
                continue
            if view.final or later.seq < view.seq:
                storage.delete(later.key)
            elif later.seq == view.seq and view.state.state == "queued":
                storage.put(Marker(view.state.rank, later.job, later.seq).key, b"")
                storage.delete(later.key)
                swept.due += 1

    def _bury(self, hints: list[Running]) -> None:
        """Heartbeats of workers long gone, of which nothing is left."""
        named = {hint.worker for hint in hints}
        for item in self.store.storage.list("workers/"):
            worker = item.key.removeprefix("workers/").removesuffix(".json")
            if worker not in named and self._age(worker) > 60 * TAKEOVER_S:
                self.store.storage.delete(item.key)
