"""Brings on what somebody left undone: jobs of vanished workers, half-finished steps, jobs whose time has come.

It looks at hints only (`running/`, `later/`); `fsck` looks at every job. Any number may run at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ifmdm_core.errors import IfmdmError, NotFound, Unavailable
from jobs import entries
from jobs.heartbeat import TAKEOVER_S, Beat, read_beat
from jobs.names import SWEPT, Later, Marker, Running, heartbeat, minute
from jobs.scheduler import settled_wishes
from jobs.settle import settle
from jobs.store import JobStore, JobView
from jobs.tenants import Places

STALL_S = 600.0
"""Seconds without any progress at which a job is taken from a worker that is alive."""
FORGOTTEN_S = 3600.0
"""Age at which the heartbeat of a worker that left nothing undone is removed."""


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


class _Workers:
    """Signs of life, as one pass sees them: all of them by one listing, and the few that matter by asking.

    Args:
        modified: when each heartbeat was written.
        now: the store's time, or a little earlier.
        silent_s: without a heartbeat for so long, a worker is looked at.
    """

    def __init__(self, store: JobStore, modified: dict[str, float], now: float, silent_s: float) -> None:
        self.store, self._modified, self._now, self._silent_s = store, modified, now, silent_s
        self._beats: dict[str, Beat | None] = {}

    def gone(self, worker: str) -> bool:
        """Whether it has been silent for longer than it said it ever would."""
        written_at = self._modified.get(worker)
        if written_at is not None and self._now - written_at < self._silent_s:
            return False
        beat = self.beat(worker)
        return self.age(worker) > (beat.takeover_s if beat else TAKEOVER_S)

    def age(self, worker: str) -> float:
        """Seconds since its last heartbeat, by the store's clock."""
        age = self.store.storage.age(heartbeat(worker))
        return float("inf") if age is None else age

    def beat(self, worker: str) -> Beat | None:
        """Its heartbeat."""
        if worker not in self._beats:
            self._beats[worker] = read_beat(self.store.storage, worker)
        return self._beats[worker]

    def long_silent(self) -> list[str]:
        """Those that have been for an hour or more."""
        old = [worker for worker, at in self._modified.items() if self._now - at > FORGOTTEN_S]
        return [worker for worker in old if self.age(worker) > FORGOTTEN_S]


class Sweeper:
    """One sweeper.

    Args:
        stall_s: see STALL_S.
        takeover_s: of its own worker; others are looked at when they have been silent for a part of that.
    """

    def __init__(
        self, store: JobStore, places: Places, stall_s: float = STALL_S, takeover_s: float = TAKEOVER_S
    ) -> None:
        self.store, self.places, self._stall_s, self._takeover_s = store, places, stall_s, takeover_s

    def due(self) -> bool:
        """Whether nobody has begun a pass for a moment; then the caller is to do one. Raises Unavailable."""
        storage = self.store.storage
        age = storage.age(SWEPT)
        if age is not None and age < self._takeover_s / 6:
            return False
        storage.put(SWEPT, self.store.nonce().encode())  # the nonce makes every writing another one
        return True

    def sweep(self) -> Swept:
        """One pass. Raises Unavailable when the store does not answer; then nothing is lost but the pass."""
        storage, swept = self.store.storage, Swept()
        self._bring_due(swept)
        beats = {
            item.key.removeprefix("workers/").removesuffix(".json"): item.modified.timestamp()
            for item in storage.list("workers/")
        }
        hints = [
            (hint, item.modified.timestamp())
            for item in storage.list("running/")
            if (hint := Running.parse(item.key)) is not None
        ]
        now = self._now(beats)
        workers = _Workers(self.store, beats, now, self._takeover_s / 3)
        self.store.clock.chance.shuffle(hints)  # where much is to be done, others do other parts of it
        for hint, put_at in hints:
            try:
                gone = workers.gone(hint.worker)
                if gone or (now - put_at > self._stall_s and self._stands_still(hint, workers)):
                    self._bring_on(hint, gone, workers, swept)
            except Unavailable:
                raise
            except IfmdmError as error:
                swept.problems.append(f"{hint.job}: {error}")
        named = {hint.worker for hint, _ in hints}
        for worker in workers.long_silent():
            if worker not in named:
                storage.delete(heartbeat(worker))
        return swept

    def _now(self, beats: dict[str, float]) -> float:
        """The store's time, told by the age of the newest heartbeat; 0 where there is none."""
        if not beats:
            return 0.0
        newest = max(beats, key=lambda worker: beats[worker])
        return beats[newest] + (self.store.storage.age(heartbeat(newest)) or 0.0)

    def _bring_on(self, hint: Running, gone: bool, workers: _Workers, swept: Swept) -> None:
        """What a worker that has gone, or whose job stands still, should have done."""
        try:
            view = self.store.view(hint.job)
        except NotFound:
            self.store.storage.delete(hint.key)  # nothing is left of the job
            return
        if not view.final and view.seq < hint.seq:
            view = self._taken(hint, view)
            if not view.final and view.seq < hint.seq:
                return
        if self._still_claims(hint, view):
            if not gone and not self._claimed_long_ago(hint, workers):
                return  # the hint is of an earlier try to claim it, which came to nothing; this one is young
            beat = workers.beat(hint.worker)
            beaten = beat.of(hint.job, hint.seq) if beat is not None else None
            after = entries.lost(view.state, beaten.frames if beaten else 0, self.store.clock.now())
            if self.store.append(hint.job, hint.seq + 1, "lost", after):
                swept.lost += 1
            view = self.store.view(hint.job)
        settle(self.store, self.places, view, hint)
        if not view.final and view.state.state == "running" and not self._still_claims(hint, view):
            self.store.storage.delete(hint.key)  # somebody else's now, with a hint of its own
        swept.settled += 1

    def _taken(self, hint: Running, view: JobView) -> JobView:
        """The job after the number that `hint` announces has been taken, if only so that nobody else can any more.

        Else the hint would have to stay, and count against the tenant's cap: its worker may only have been paused.
        """
        view = settled_wishes(self.store, view)
        if view.final or view.seq >= hint.seq or view.state.state != "queued":
            return view
        ours = Running(self.store.by, hint.job, hint.seq)
        self.store.storage.put(ours.key, b"")  # its owner removes `hint` as soon as it finds the number taken
        self.store.append(hint.job, hint.seq, "queued", view.state)
        view = settle(self.store, self.places, self.store.view(hint.job))
        if ours != hint:
            self.store.storage.delete(ours.key)
        return view

    def _still_claims(self, hint: Running, view: JobView) -> bool:
        """Whether the last entry is the claim this hint speaks of."""
        return (
            not view.final
            and view.seq == hint.seq
            and view.state.state == "running"
            and view.state.worker == hint.worker
        )

    def _stands_still(self, hint: Running, workers: _Workers) -> bool:
        """Whether a worker that is alive says so of a job, or does not know of it (any more)."""
        beat = workers.beat(hint.worker)
        found = beat.of(hint.job, hint.seq) if beat is not None else None
        return found is None or found.still_s > self._stall_s

    def _claimed_long_ago(self, hint: Running, workers: _Workers) -> bool:
        """Whether the claim is so old that the heartbeat we read must speak of it."""
        beat = workers.beat(hint.worker)
        claimed_for = self.store.storage.age(hint.job.log(hint.seq)) or 0.0
        return claimed_for > max(self._stall_s, beat.takeover_s if beat is not None else TAKEOVER_S)

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
