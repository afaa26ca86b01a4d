"""Which job next, and the claim. Any number of workers run this against one store, and never talk to each other.

Tenants share by weight: the next job is one of the tenant's that has the least running for its weight. Within a tenant
a random one of the first 32 is taken, so that workers seldom reach for the same.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from ifmdm_core.errors import BadInput, Conflict, IfmdmError, NotFound, Unavailable, Unsupported
from jobs import entries
from jobs.entries import JobRecord, JobState
from jobs.names import JobRef, Marker, Running
from jobs.settle import ended_hint, follow
from jobs.store import JobStore, JobView
from jobs.tenants import TenantPolicy, read_policy

HEAD = 32
"""Jobs at the head of a tenant's queue that are chosen from."""
SNAPSHOT_S = 3.0
"""Seconds for which what was listed counts as the present: who waits, and who runs how much."""
POLICY_S = 60.0
"""Seconds for which a tenant's policy is kept."""
REACH_MOST = 4096
"""Farthest that is looked into a tenant's queue whose head cannot be run here."""
LOOKS_MOST = 256
"""Jobs that are looked at before the caller gets its turn, when none of them can be had."""
SKIP_S = 30.0
"""Seconds for which a job that could not be had is passed over."""
UNWANTED_S = 600.0
"""Seconds for which a job is passed over whose bundle cannot be rendered here, unless that changes."""
SOLO_PATIENCE_S = 10.0
"""Seconds that a job which must run alone waits for an idle worker, before busy ones take no others for its sake."""
ORPHAN_S = 3600.0
"""Age at which a marker whose job never got its spec is dropped."""


@dataclass(frozen=True)
class Claim:
    """A job that is ours until somebody gives a verdict on it."""

    record: JobRecord
    seq: int
    """Of the entry that claims it; the verdict is seq + 1."""
    state: JobState

    @property
    def ref(self) -> JobRef:
        return self.record.ref


class Scheduler:
    """One worker's choice.

    Args:
        store: whose `by` is the worker's name.
    """

    def __init__(self, store: JobStore) -> None:
        self.store, self.clock = store, store.clock
        self._heads: dict[str, deque[Marker]] = {}
        self._waiting: list[str] = []
        self._running: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        self._seen_at = float("-inf")
        self._policies: dict[str, tuple[float, TenantPolicy | None]] = {}
        self._reach: dict[str, int] = {}
        self._skipped: dict[str, float] = {}
        self._unwanted: dict[str, tuple[float, str]] = {}
        self._held: Marker | None = None

    def next(self, alone: bool, wanted: Callable[[str], bool] = lambda bundle: True) -> Claim | None:
        """Claims a job, or None when there is none for us now.

        Args:
            alone: whether this worker runs nothing; else jobs that want to be alone are left to others.
            wanted: whether this worker can render with a bundle of that digest.

        Raises Unavailable when the store does not answer.
        """
        self._look()
        if self._held is not None:
            if not alone and self._waits(self._held):
                return None  # it gets this worker as soon as nothing else runs here
            held, self._held = self._held, None
            if alone and (claim := self._try(held, alone, wanted)) is not None:
                return self._took(claim)
        looks = 0
        for tenant in self._order():
            while looks < LOOKS_MOST and self._held is None and (head := self._head(tenant, wanted)):
                marker, looks = head.popleft(), looks + 1
                claim = self._try(marker, alone, wanted)
                if claim is not None:
                    return self._took(claim)
                self._skipped.setdefault(marker.key, self.clock.monotonic() + SKIP_S)
        return None

    def forget(self) -> None:
        """What was listed is no longer the present."""
        self._seen_at = float("-inf")

    def ended(self, tenant: str) -> None:
        """A job of ours is over."""
        if self._taken[tenant] > 0:
            self._taken[tenant] -= 1
        elif self._running[tenant] > 0:
            self._running[tenant] -= 1

    @property
    def waiting(self) -> tuple[str, ...]:
        """Tenants that had jobs in their queues when last looked."""
        return tuple(self._waiting)

    def claim(self, marker: Marker, view: JobView) -> Claim | None:
        """Claims a queued job; None when somebody was quicker. Raises Unavailable, Conflict."""
        store, ref, seq = self.store, view.ref, view.seq + 1
        record = view.record or store.record(ref)
        hint = Running(store.by, ref, seq)
        store.storage.put(hint.key, b"")  # first: a claim always has its hint
        state = entries.claimed(view.state, store.by, self.clock.now())
        if not store.append(ref, seq, "claimed", state):
            store.storage.delete(hint.key)
            return None
        # From here on it is ours: a store that does not answer now must not make us forget that.
        with contextlib.suppress(Unavailable):
            if store.storage.info(ref.final) is not None:
                # Ended and cleaned up while we hesitated; the slot was free because the log has gone.
                store.storage.delete(hint.key)
                return None
            store.storage.delete(marker.key)
        return Claim(record, seq, state)

    def _took(self, claim: Claim) -> Claim:
        self._taken[claim.ref.tenant] += 1
        return claim

    def _try(self, marker: Marker, alone: bool, wanted: Callable[[str], bool]) -> Claim | None:
        try:
            view = self.store.view(marker.job)
            view = settled_wishes(self.store, view)
            if drop_stale(self.store, marker, view):
                return None
            if marker.seq != view.seq or view.state.state != "queued":
                return None
            if not wanted(view.state.bundle):
                self._unwanted[marker.key] = (self.clock.monotonic() + UNWANTED_S, view.state.bundle)
                return None
            if view.state.solo and not alone:
                waits_since = max(view.state.ended_at or 0.0, view.state.queued_at)
                if self.clock.now() - waits_since > SOLO_PATIENCE_S:
                    self._held = marker
                self._skipped[marker.key] = self.clock.monotonic() + SNAPSHOT_S  # we may be alone by then
                return None
            if self._expired(view):
                return None
            return self.claim(marker, view)
        except NotFound:
            self._drop_orphan(marker)
        except (Conflict, BadInput, Unsupported):
            pass  # damaged, or of another version: never claimed; fsck reports it
        return None

    def _waits(self, marker: Marker) -> bool:
        """Whether nobody has taken it up yet. Raises Unavailable."""
        try:
            view = self.store.view(marker.job)
        except Unavailable:
            raise
        except IfmdmError:
            return False
        return not view.final and view.seq == marker.seq

    def _expired(self, view: JobView) -> bool:
        """Whether its deadline has passed; then it is ended."""
        record = view.record or self.store.record(view.ref)
        deadline, now = record.job.deadline, self.clock.now()
        if deadline is None or now <= deadline:
            return False
        # A hint of our own, for what follows the end (webhook, ended/) to be done by somebody even if we die here.
        hint = Running(self.store.by, view.ref, view.seq + 1)
        self.store.storage.put(hint.key, b"")
        fault = entries.Fault(
            kind="Expired", outcome="expired", what=f"its deadline {deadline:.0f} passed while it waited",
            fix="ifmdm jobs retry with a later deadline, or a higher priority",
        )  # fmt: skip
        state = entries.stopped(view.state.model_copy(update={"fault": fault}), "expired", now)
        if self.store.append(view.ref, view.seq + 1, "expired", state):
            follow(self.store, view.ref, view.seq + 1, state)
        self.store.storage.delete(hint.key)
        return True

    def _drop_orphan(self, marker: Marker) -> None:
        """A submit died between marker and spec."""
        age = self.store.storage.age(marker.key)
        if age is not None and age > ORPHAN_S:
            self.store.storage.delete(marker.key)

    def _look(self) -> None:
        if self._waiting and self.clock.monotonic() - self._seen_at < SNAPSHOT_S:
            return
        storage = self.store.storage
        self._waiting = storage.folders("queue/")
        if not self._waiting:
            return  # one request is all that an idle worker's look costs
        self._running = Counter(
            hint.job.tenant
            for item in storage.list("running/")
            if (hint := Running.parse(item.key)) is not None
        )
        self._taken.clear()
        self._heads.clear()  # else what is urgent would wait until all of an old head had been rendered
        self._seen_at = self.clock.monotonic()

    def _order(self) -> list[str]:
        """Tenants that may have one more, the one with the least for its weight first."""
        found = []
        for tenant in self._waiting:
            policy = self._policy(tenant)
            if policy is None:
                continue
            running = self._running[tenant] + self._taken[tenant]
            if running < policy.cap:
                found.append((running / policy.weight, self.clock.chance.random(), tenant))
        return [tenant for _, _, tenant in sorted(found)]

    def _policy(self, tenant: str) -> TenantPolicy | None:
        kept = self._policies.get(tenant)
        now = self.clock.monotonic()
        if kept is None or now - kept[0] > POLICY_S:
            try:
                policy: TenantPolicy | None = read_policy(self.store.storage, tenant)
            except Unavailable:
                raise
            except IfmdmError:
                policy = None  # unknown tenants wait, which `why` says
            kept = self._policies[tenant] = (now, policy)
        return kept[1]

    def _head(self, tenant: str, wanted: Callable[[str], bool]) -> deque[Marker]:
        """The first of its queue, shuffled; listed again once they have been tried, farther where none could be had."""
        if not self._heads.get(tenant):
            now, reach = self.clock.monotonic(), self._reach.get(tenant, HEAD)
            self._skipped = {key: until for key, until in self._skipped.items() if until > now}
            self._unwanted = {key: known for key, known in self._unwanted.items() if known[0] > now}
            while True:
                listed = [item.key for item in self.store.storage.list(f"queue/{tenant}/", limit=reach)]
                fresh = [key for key in listed if self._fresh(key, wanted)]
                if fresh or len(listed) < reach or reach == REACH_MOST:
                    break
                reach = min(REACH_MOST, 2 * reach)
            self._reach[tenant] = max(HEAD, min(REACH_MOST, 2 * (len(listed) - len(fresh))))
            found = [marker for key in fresh if (marker := Marker.parse(key)) is not None][:HEAD]
            self.clock.chance.shuffle(found)
            self._heads[tenant] = deque(found)
        return self._heads[tenant]

    def _fresh(self, key: str, wanted: Callable[[str], bool]) -> bool:
        """Whether a marker is worth a look."""
        if key in self._skipped:
            return False
        known = self._unwanted.get(key)
        return known is None or wanted(known[1])


def drop_stale(store: JobStore, marker: Marker, view: JobView) -> bool:
    """Removes a marker that the log has overtaken; True when it had. Never one that may still be needed."""
    if not (view.final or marker.seq < view.seq):
        return False
    if view.state.state == "running" and view.entry is not None and view.entry.kind == "claimed":
        # Its claimant may have died right now: whoever takes the marker away sees to the hint.
        store.storage.put(Running(view.entry.by, view.ref, view.seq).key, b"")
    store.storage.delete(marker.key)
    return True


def settled_wishes(store: JobStore, view: JobView) -> JobView:
    """The job after what users wish of it has been done, as far as it can be done to a job that does not run.

    A running job's stop is seen by its worker. Raises Unavailable, Forbidden where the log cannot be written.
    """
    while view.wishes and not view.final:
        applied = _apply(store, view)
        if applied is None:
            return view
        view = applied
    return view


def _apply(store: JobStore, view: JobView) -> JobView | None:
    """One wish done; None when there is none that can be."""
    state, now = view.state, store.clock.now()
    kind: entries.Kind = "queued"
    if state.state in ("queued", "suspended") and (asked := _asked_to_stop(view)) is not None:
        content = store.read_wish(view.ref, asked, "stop")
        suspend = content.get("how") == "suspend"
        if suspend and state.state == "suspended":
            return None
        kind = "suspended" if suspend else "cancelled"
        after = entries.stopped(state, "suspended" if suspend else "cancelled", now)
    elif (state.state == "suspended" and view.wished("resume")) or (
        state.state in entries.RETRIABLE and view.wished("retry")
    ):
        after = entries.queued_again(state, now)
    elif state.state == "queued" and view.wished("priority"):
        content = store.read_wish(view.ref, view.seq, "priority")
        try:
            priority = max(-1000, min(1000, int(content["priority"])))
        except (KeyError, TypeError, ValueError):
            return None
        after = entries.reprioritised(state, priority)
    else:
        return None
    # The hint makes somebody do what follows (the marker, the webhook) even if we die right after the entry.
    hint = Running(store.by, view.ref, view.seq + 1)
    store.storage.put(hint.key, b"")
    if state.resting:
        store.storage.delete(
            ended_hint(view.ref, state).key
        )  # now: its next end may have one of the same name
    won = store.append(view.ref, view.seq + 1, kind, after)
    if won:
        follow(store, view.ref, view.seq + 1, after)
    there = store.view(view.ref)
    if not won and state.resting and there.state.resting:
        store.storage.put(ended_hint(view.ref, there.state).key, b"")  # we may have taken that one away
    store.storage.delete(hint.key)
    return there


def _asked_to_stop(view: JobView) -> int | None:
    """The entry after which a user asked to stop; also that of, or before, a claim that has come to nothing since."""
    fruitless = view.entry is not None and view.entry.kind in ("released", "lost", "failed")
    asked = (view.seq, view.seq - 1, view.seq - 2) if fruitless else (view.seq,)
    return next((seq for seq in asked if (seq, "stop") in view.wishes), None)
