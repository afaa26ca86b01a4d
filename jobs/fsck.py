"""Looks at every job of a store and mends what hints should say but do not. The log is the truth; it is never touched.

Mended: a job that waits without a marker, runs without a hint, has ended without one, is done but not published;
markers that lead nowhere. Reported only: logs with gaps, damaged files, foreign names, rights to publish without a job.
That a published video is gone is nobody's fault: it belongs to the user.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ifmdm_core.errors import Forbidden, IfmdmError, NotFound, Unavailable
from ifmdm_core.storage import Item
from jobs.names import LOOKED, Ended, JobRef, Later, Marker, Running, output_holder
from jobs.outputs import ABANDONED_S, Holder, take
from jobs.scan import jobs_under, store_time
from jobs.scheduler import ORPHAN_S, drop_stale, settled_wishes
from jobs.settle import ended_hint, follow, settle, waiting_key
from jobs.store import JobStore, JobView
from jobs.tenants import Places

_NAME = re.compile(r"spec\.json|final\.json|log/\d{8}\.json|wishes/\d{8}-(stop|resume|retry|priority)\.json")

_AGAIN = re.compile(r"wishes/\d{8}-(retry|resume)\.json")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    where: str
    """A job, or a key."""
    what: str
    mended: bool = False


@dataclass
class Report:
    """What was looked at, and found."""

    jobs: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def left(self) -> list[Finding]:
        """What a person has to look at, or `--repair`."""
        return [finding for finding in self.findings if not finding.mended]


def repair(store: JobStore, places: Places) -> Report:
    """What a worker does now and then: hints are mended; holders and entries before the last are not read."""
    return Fsck(store, places, mend=True).run()


def repair_when_due(store: JobStore, places: Places, every_s: float) -> Report | None:
    """`repair`, unless any worker has begun it within `every_s` seconds by the store's clock."""
    age = store.storage.age(LOOKED)
    if age is not None and age < every_s:
        return None
    store.storage.put(LOOKED, json.dumps({"by": store.by, "at": store.clock.now()}).encode())
    return repair(store, places)


class Fsck:
    """One look at everything.

    Args:
        mend: put right what can be.
        deep: read every entry of every log, and every right to publish.
    """

    def __init__(self, store: JobStore, places: Places, *, mend: bool = False, deep: bool = False) -> None:
        self.store, self.places, self.mend, self.deep = store, places, mend, deep
        self.report = Report()
        self._now = store_time(store.storage)

    def run(self) -> Report:
        """Raises Unavailable when the store does not answer; what was mended by then is."""
        storage = self.store.storage
        # Hints are listed first: a job that moves on meanwhile gets newer ones, and is read again.
        hints: dict[JobRef, list[Marker | Later | Running]] = defaultdict(list)
        for hint in self._hints():
            hints[hint.job].append(hint)
        ended = {bytes.fromhex(hint.job.id) for hint in self._ended()}
        for ref, items in jobs_under(storage, stranger=self._stranger):
            self.report.jobs += 1
            try:
                self._job(ref, items, hints.pop(ref, []), bytes.fromhex(ref.id) in ended)
            except (Unavailable, Forbidden):
                raise
            except IfmdmError as error:
                self._found(str(ref), error.what)
        for ref, left in hints.items():
            self._without_job(ref, left)
        if self.deep:
            self._holders()
        return self.report

    def _hints(self) -> Iterator[Marker | Later | Running]:
        kinds: tuple[tuple[str, type[Marker] | type[Later] | type[Running]], ...] = (
            ("queue/", Marker), ("later/", Later), ("running/", Running),
        )  # fmt: skip
        for prefix, kind in kinds:
            for item in self.store.storage.list(prefix):
                if (hint := kind.parse(item.key)) is not None:
                    yield hint
                else:
                    self._stranger(item)

    def _ended(self) -> Iterator[Ended]:
        for item in self.store.storage.list("ended/"):
            if (hint := Ended.parse(item.key)) is not None:
                yield hint
            else:
                self._stranger(item)

    def _job(
        self, ref: JobRef, items: list[Item], hints: list[Marker | Later | Running], ended: bool
    ) -> None:
        names = {item.key[len(ref.folder) :]: item for item in items}
        for name, item in names.items():
            if not _NAME.fullmatch(name):
                self._stranger(item)
        final, logs = (
            names.get("final.json"),
            [item for name, item in names.items() if name.startswith("log/")],
        )
        if "spec.json" not in names:
            if final is None:
                self._found(str(ref), "has no spec.json")
            elif self._mends(str(ref), "its record was half removed"):
                self.store.storage.delete_if(final.key, final.etag)
            return
        if (
            logs
            and not hints
            and not self.deep
            and ended
            and not any(_AGAIN.fullmatch(name) for name in names)
        ):
            # What follows its end has been done, and without such a wish nothing comes after an end: as with most
            # jobs, there is nothing to read. Times would not tell: a bucket's are whole seconds.
            return
        view = self.store.view(ref)
        if self.deep:
            self._read_all(view)
        if self.mend and view.wishes:
            view = settled_wishes(self.store, view)
        if not view.final:
            self._state(view, hints)
        for hint in hints:
            if not isinstance(hint, Running):  # those are the sweeper's
                self._waiting(hint, view)

    def _state(self, view: JobView, hints: list[Marker | Later | Running]) -> None:
        """Whether somebody will see to the job."""
        store, ref, seq, state = self.store, view.ref, view.seq, view.state
        waits = any(hint.seq == seq and not isinstance(hint, Running) for hint in hints)
        swept = any(hint.seq <= seq and isinstance(hint, Running) for hint in hints)
        if state.state == "queued" and not waits:
            self._lacks(str(ref), waiting_key(ref, seq, state, store.clock.now()), "waits without a marker")
        elif state.state == "running" and view.entry is not None:
            hint = Running(view.entry.by, ref, seq)
            if hint not in hints:
                self._lacks(str(ref), hint.key, f"runs at {hint.worker} without a hint")
        elif state.state == "done" and not swept:
            if self._mends(str(ref), "is done, but not published"):
                settle(store, self.places, view)
        elif (
            state.resting
            and not swept
            and store.storage.info(ended_hint(ref, state).key) is None
            and self._mends(str(ref), f"is {state.state}, but not listed as such")
        ):
            follow(store, ref, seq, state)

    def _lacks(self, where: str, key: str, what: str) -> None:
        """Puts a hint that is not there; one that came since they were listed is none the worse for it."""
        if self.store.storage.info(key) is None and self._mends(where, what):
            self.store.storage.put(key, b"")

    def _waiting(self, hint: Marker | Later, view: JobView) -> None:
        """Whether a marker is still that of its job."""
        storage, where = self.store.storage, hint.key
        if view.final or hint.seq < view.seq:
            if storage.info(where) is not None and self._mends(where, "its job has gone on"):
                if isinstance(hint, Marker):
                    drop_stale(self.store, hint, view)
                else:
                    storage.delete(where)
        elif hint.seq > view.seq:
            self._drop_old(where, "its job has not come so far")
        elif view.state.state not in ("queued", "running") and not view.wishes:
            self._drop_old(where, f"its job is {view.state.state}")

    def _without_job(self, ref: JobRef, hints: list[Marker | Later | Running]) -> None:
        try:
            self.store.view(ref)
        except NotFound:
            for hint in hints:
                if not isinstance(hint, Running):
                    self._drop_old(hint.key, "its job was never submitted whole")
        except IfmdmError as error:
            self._found(str(ref), error.what)

    def _drop_old(self, key: str, what: str) -> None:
        """Removes a marker that leads nowhere, unless it is so young that somebody may be at work on it."""
        age = self.store.storage.age(key)
        if age is not None and age > ORPHAN_S and self._mends(key, what):
            self.store.storage.delete(key)

    def _read_all(self, view: JobView) -> None:
        """Whether everything of the job can be read. Raises Conflict, Unsupported for what cannot."""
        store, record = self.store, self.store.record(view.ref)
        if view.final:
            return
        for seq in range(1, view.seq):
            store.entry(view.ref, seq)
        holder = output_holder(record.job.output, record.holder)
        if (
            not view.state.terminal
            and store.storage.info(holder) is None
            and self._mends(str(view.ref), f"its right to publish {holder} is gone")
        ):
            take(store, view.ref, record.job.output, record.holder)

    def _holders(self) -> None:
        storage = self.store.storage
        for item in storage.list("outputs/"):
            try:
                holder = Holder.model_validate_json(storage.get(item.key))
            except NotFound:
                continue
            except ValueError:
                self._found(item.key, "damaged, or none of ifmdm's")
                continue
            old = self._now - item.modified.timestamp() > ABANDONED_S
            if old and storage.info(holder.ref.spec) is None:
                self._found(item.key, f"a right to publish whose job {holder.ref} is not there")

    def _stranger(self, item: Item) -> None:
        self._found(item.key, "a name that is none of ifmdm's")

    def _found(self, where: str, what: str) -> None:
        self.report.findings.append(Finding(where, what))

    def _mends(self, where: str, what: str) -> bool:
        """Notes it; True where it is to be mended."""
        self.report.findings.append(Finding(where, what, self.mend))
        return self.mend
