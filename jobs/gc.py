"""Retention: ended jobs shrink to a record, records go in the end, and what nobody needs goes with them.

    terminal for keep_days        log entry `closed` (nobody can retry it any more), kept/…, final.json; then the
                                  attempts, the log, the wishes; the hint ended/… last, as it leads here
    kept for idempotency_days     spec.json, then final.json, then the right to publish; kept/… last

Ages are the store's, never this machine's. May run twice, by two at once, and be killed anywhere: what is deleted is
deleted as it was seen, and the hint that leads to a job goes after everything else. Who submits a job again between the
last steps finds final.json without spec.json, and has to wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ifmdm_core.errors import BadInput, Conflict, IfmdmError, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import Item
from jobs.names import Ended, JobRef, Kept, Marker, Webhook, day, next_holder, output_holder
from jobs.scan import jobs_under, store_time
from jobs.settle import ended_hint
from jobs.store import FinalRecord, JobStore, JobView, Past

KEEP_DAYS, IDEMPOTENCY_DAYS = 7.0, 90.0
WEBHOOK_S = 24 * 3600.0
"""Age at which an ended job is told no more."""
DAY_S = 86_400.0


@dataclass
class Freed:
    """What was removed, or would be."""

    jobs: int = 0
    """Reduced to a record."""
    records: int = 0
    """Forgotten altogether."""
    uploads: int = 0
    webhooks: int = 0
    objects: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Freed) -> None:
        """Both together."""
        for name in ("jobs", "records", "uploads", "webhooks", "objects", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems


@dataclass(frozen=True)
class Candidate:
    """A job to be looked at, and the hint that led to it."""

    job: JobRef
    hint: Ended | Kept | None = None


class Collector:
    """One pass. `clean` may be called from several threads.

    Args:
        keep_days: for which an ended job keeps its log and its attempts.
        idempotency_days: for which its record is kept afterwards, so that submitting it again finds it.
        dry_run: counts, and removes nothing.

    Raises BadInput for days that cannot be; NotFound, Unavailable.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        keep_days: float = KEEP_DAYS,
        idempotency_days: float = IDEMPOTENCY_DAYS,
        dry_run: bool = True,
    ) -> None:
        if not keep_days >= 0 or not idempotency_days >= 1:
            raise BadInput(
                f"keep days are {keep_days:g}, idempotency days {idempotency_days:g}",
                fix="0 or more, and 1 or more: who forgets at once may meet a job that is submitted again",
            )
        self.store, self.dry_run = store, dry_run
        self._keep_s, self._record_s = keep_days * DAY_S, idempotency_days * DAY_S
        self._now = store_time(store.storage)

    def due(self, tenants: list[str] | None = None) -> Iterator[Candidate]:
        """Jobs that ended, or became records, long enough ago, by their hints."""
        storage = self.store.storage
        for tenant in storage.folders("ended/") if tenants is None else tenants:
            for item in storage.list(f"ended/{tenant}/"):
                ended = Ended.parse(item.key)
                if ended is not None and self._age(item) >= self._keep_s:
                    yield Candidate(ended.job, ended)
        last = day(self._now - self._record_s)
        for tenant in storage.folders("kept/") if tenants is None else tenants:
            for name in storage.folders(f"kept/{tenant}/"):
                if name <= last:
                    yield from self._kept(f"kept/{tenant}/{name}/")

    def everything(self, tenants: list[str] | None = None) -> Iterator[Candidate]:
        """All jobs, hints or not, and what is left of some in other places."""
        storage = self.store.storage
        yield from (Candidate(ref) for ref, _ in jobs_under(storage, "jobs", tenants))
        for ref, _ in jobs_under(storage, "attempts", tenants):
            if storage.info(ref.spec) is None:
                yield Candidate(ref)
        for prefix in ["kept/"] if tenants is None else [f"kept/{tenant}/" for tenant in tenants]:
            yield from self._kept(prefix)

    def clean(self, candidate: Candidate) -> Freed:
        """Does what may be done to one job now. Raises Unavailable."""
        freed = Freed()
        try:
            self._clean(candidate.job, candidate.hint, freed)
        except Unavailable:
            raise
        except IfmdmError as error:
            freed.problems.append(f"{candidate.job}: {error}")
        return freed

    def webhooks(self) -> Freed:
        """Hints of ended jobs that could not be told for a day."""
        old = [
            item
            for item in self.store.storage.list("webhooks/")
            if Webhook.parse(item.key) is not None and self._age(item) >= WEBHOOK_S
        ]
        freed = Freed(webhooks=len(old))
        self._delete(old, freed)
        return freed

    def uploads(self, tenants: list[str] | None = None) -> Freed:
        """Uploaded inputs, old enough, of jobs that have become records. Reads the specs of all others."""
        freed, storage = Freed(), self.store.storage
        for tenant in storage.folders("uploads/") if tenants is None else tenants:
            old = [item for item in storage.list(f"uploads/{tenant}/") if self._age(item) >= self._keep_s]
            if not old:
                continue
            try:
                needed = self._needed(tenant)
            except (Conflict, NotFound) as error:  # nobody knows what that one needs
                freed.problems.append(f"uploads of {tenant} stay: {error}")
                continue
            unused = [item for item in old if item.key not in needed]
            freed.uploads += len(unused)
            self._delete(unused, freed)
        return freed

    def _clean(self, ref: JobRef, hint: Ended | Kept | None, freed: Freed) -> None:
        storage = self.store.storage
        items = {item.key: item for item in storage.list(ref.folder)}
        final = items.get(ref.final)
        if final is None and ref.spec not in items:
            self._sweep_up(ref, list(items.values()), hint, freed)
            return
        ended = hint if isinstance(hint, Ended) else None
        if final is None:
            view = self.store.view(ref)
            right = ended_hint(ref, view.state) if view.state.resting else None
            if not self._closed(view, items):
                if isinstance(hint, Kept) or ended != right:
                    self._drop(hint, freed)  # of the job's earlier life
                return
            self._make_record(view)
            freed.jobs += 1
            ended = ended or right
        self._delete(storage.list(f"attempts/{ref}/"), freed)
        self._delete((i for i in storage.list(ref.folder) if i.key not in (ref.spec, ref.final)), freed)
        self._drop(ended, freed)
        if final is not None and self._age(final) >= self._record_s:
            self._forget(ref, items.get(ref.spec), final, hint, freed)

    def _closed(self, view: JobView, items: dict[str, Item]) -> bool:
        """Whether nobody can take the job up any more, which is made sure where it has ended long ago."""
        if view.final:
            return True
        last = items.get(view.ref.log(view.seq))
        if not view.state.terminal or last is None or self._age(last) < self._keep_s:
            return False
        retry = items.get(view.ref.wish(view.seq, "retry"))
        if retry is not None and self._age(retry) < self._keep_s:
            return False  # somebody is just taking it up again; an old wish was given up by its user
        self.store.record(view.ref)  # a damaged one is left as it is: somebody should look at it
        # Taking the next number is what stops a retry: from here on it comes too late.
        return self.dry_run or self.store.append(view.ref, view.seq + 1, "closed", view.state)

    def _make_record(self, view: JobView) -> None:
        if self.dry_run:
            return
        storage, ref, record = self.store.storage, view.ref, self.store.record(view.ref)
        storage.put(
            Kept(ref, day(self._now)).key, output_holder(record.job.output, record.holder).encode()
        )  # first: a record without it would never be forgotten
        final = FinalRecord(state=view.state, at=self.store.clock.now(), history=self._history(view))
        storage.put_if_absent(ref.final, final.model_dump_json().encode())
        storage.delete(Marker(view.state.rank, ref, view.seq).key)

    def _history(self, view: JobView) -> tuple[Past, ...]:
        """Who wrote what: the log goes, and this is asked for later (see `jobs.audit`)."""
        found = []
        for seq in range(1, view.seq + 1):
            with contextlib.suppress(
                NotFound, Conflict, Unsupported
            ):  # another gc was quicker, or it is damaged
                entry = self.store.entry(view.ref, seq)
                found.append(Past(kind=entry.kind, at=entry.at, by=entry.by, state=entry.state.state))
        return tuple(found)

    def _forget(
        self, ref: JobRef, spec: Item | None, final: Item, hint: Ended | Kept | None, freed: Freed
    ) -> None:
        """The record goes: spec before final, as a spec alone would be a job that waits."""
        holder = None
        if isinstance(hint, Kept):
            holder = self.store.storage.get(hint.key).decode()
        elif spec is not None:
            record = self.store.record(ref)
            holder = output_holder(record.job.output, record.holder)
        freed.records += 1
        self._delete([item for item in (spec, final) if item is not None], freed)
        if holder is not None and self._give_back(ref, holder, freed) and isinstance(hint, Kept):
            self._drop(hint, freed)

    def _sweep_up(self, ref: JobRef, items: list[Item], hint: Ended | Kept | None, freed: Freed) -> None:
        """What is left of a job that is forgotten."""
        left = [*items, *self.store.storage.list(f"attempts/{ref}/")]
        self._delete([item for item in left if self._age(item) >= self._keep_s], freed)
        if isinstance(hint, Ended):
            self._drop(hint, freed)
        elif hint is not None:
            try:
                holder = self.store.storage.get(hint.key).decode()
            except NotFound:
                return  # another gc was here
            if self._give_back(ref, holder, freed):
                self._drop(hint, freed)

    def _give_back(self, ref: JobRef, holder: str, freed: Freed) -> bool:
        """The right to publish of a forgotten job; False while a later one stands on it.

        The numbers of an output's rights have no gaps, so they go from the last to the first.
        """
        storage, after = self.store.storage, next_holder(holder)
        item = storage.info(holder)
        if item is None or self.dry_run:
            return True
        if storage.info(after) is not None:
            return False
        data = storage.get(holder)
        if ref.id.encode() not in data or storage.info(ref.spec) is not None:
            return True  # another's by now, or submitted again
        self._delete([item], freed)
        if storage.info(after) is not None:  # somebody came just then
            storage.put_if_absent(holder, data)
        return True

    def _kept(self, prefix: str) -> Iterator[Candidate]:
        for item in self.store.storage.list(prefix):
            if (kept := Kept.parse(item.key)) is not None:
                yield Candidate(kept.job, kept)

    def _needed(self, tenant: str) -> set[str]:
        """Last three parts of the inputs' URIs of jobs that may still run. Raises Conflict, NotFound."""
        storage, seen = self.store.storage, set[JobRef]()
        found: set[str] = set()

        def note(ref: JobRef) -> None:
            job = self.store.record(ref).job
            found.update("/".join(uri.split("/")[-3:]) for uri in (job.portrait, job.audio))

        for ref, items in jobs_under(storage, tenants=[tenant]):
            names = {item.key for item in items}
            seen.add(ref)
            if ref.spec in names and ref.final not in names:
                note(ref)
        for item in storage.list(f"queue/{tenant}/"):  # submitted while we looked
            marker = Marker.parse(item.key)
            if marker is not None and marker.job not in seen:
                note(marker.job)
        return found

    def _age(self, item: Item) -> float:
        """Seconds, by the store's clock as it was when the pass began."""
        return self._now - item.modified.timestamp()

    def _drop(self, hint: Ended | Kept | None, freed: Freed) -> None:
        if hint is not None:
            freed.objects += 1
            if not self.dry_run:
                self.store.storage.delete(hint.key)

    def _delete(self, items: Iterable[Item], freed: Freed) -> None:
        for item in items:
            freed.objects += 1
            freed.bytes += item.size
            if not self.dry_run:
                self.store.storage.delete_if(item.key, item.etag)


def collect(
    store: JobStore,
    *,
    keep_days: float = KEEP_DAYS,
    idempotency_days: float = IDEMPOTENCY_DAYS,
    dry_run: bool = True,
    everything: bool = False,
    tenants: list[str] | None = None,
) -> Freed:
    """One pass over all jobs that are due, or over everything. Raises as `Collector`."""
    collector = Collector(store, keep_days=keep_days, idempotency_days=idempotency_days, dry_run=dry_run)
    freed = Freed()
    for candidate in collector.everything(tenants) if everything else collector.due(tenants):
        freed.add(collector.clean(candidate))
    freed.add(collector.webhooks())
    if everything:
        freed.add(collector.uploads(tenants))
    return freed
