"""The store of jobs: one primitive, create-if-absent, and what a reader sees of a job.

Works on a folder and on every S3 that honours `If-None-Match`. Nothing here decides what happens next.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import Storage
from jobs.clock import Clock, SystemClock
from jobs.entries import LAYOUT, Entry, JobRecord, JobState, Kind, State
from jobs.names import STORE, WISHES, JobRef, WishKind

ANSWERS = 8
"""Tries to learn whether a write of ours happened."""
PAUSE_S, PAUSE_MOST_S = 0.2, 5.0
"""Before the second try, doubled with each further one; give or take half."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class JobView:
    """A job as one listing and one read show it."""

    ref: JobRef
    seq: int
    """Of the last entry; 0 before the first."""
    state: JobState
    wishes: frozenset[tuple[int, WishKind]]
    """(seq, kind) of what users wish."""
    final: bool
    """Whether it is kept only as a record, or is just becoming one; nothing follows."""
    record: JobRecord | None
    """Where it had to be read anyway; see `JobStore.record`."""
    entry: Entry | None
    """The last one; None before the first."""

    def wished(self, kind: WishKind) -> bool:
        """Whether a user wishes that of the job as it is now."""
        return (self.seq, kind) in self.wishes


class JobStore:
    """Jobs under one root. Several threads and machines may have one each.

    Args:
        storage: the root.
        by: who writes: a worker's name, or a user's.
        clock: time and chance.
    """

    def __init__(self, storage: Storage, by: str, clock: Clock | None = None) -> None:
        self.storage, self.by = storage, by
        self.clock: Clock = clock or SystemClock()

    def nonce(self) -> str:
        """A name for one write, never used twice."""
        return f"{self.by}:{self.clock.chance.getrandbits(96):024x}"

    def create_once(self, key: str, data: bytes, nonce: str) -> bool:
        """Write `key` if nothing is there: True when it holds our bytes, of which `nonce` is part.

        Where the store's answer leaves open what happened, `key` is read back: our nonce means won, another's lost,
        nothing means once more. "No" is read back too: it may be the answer to our own earlier try.

        Raises Unavailable when it cannot be learned.
        """
        pause = PAUSE_S
        for attempt in range(ANSWERS):
            if attempt:
                self.clock.sleep(pause * self.clock.chance.uniform(0.5, 1.5))
                pause = min(PAUSE_MOST_S, 2 * pause)
            try:
                if self.storage.put_if_absent(key, data):
                    return True
            except Unavailable:
                pass
            try:
                return nonce.encode() in self.storage.get(key)
            except NotFound:
                continue  # it did not happen, or was taken away again
            except Unavailable:
                continue
        raise Unavailable(
            f"{key}: the store does not say whether it was written", fix="try again", retry_after=30.0
        )

    def append(self, ref: JobRef, seq: int, kind: Kind, state: JobState) -> bool:
        """Write the entry `seq` of a job's log: True for the one who did. Raises Unavailable as `create_once`."""
        nonce = self.nonce()
        entry = Entry(seq=seq, kind=kind, at=self.clock.now(), by=self.by, nonce=nonce, state=state)
        return self.create_once(ref.log(seq), entry.model_dump_json().encode(), nonce)

    def wish(self, ref: JobRef, seq: int, kind: WishKind, content: dict[str, Any]) -> bool:
        """Note what a user wishes of the job after entry `seq`; False where somebody has wished the like."""
        nonce = self.nonce()
        data = json.dumps({**content, "nonce": nonce, "by": self.by, "at": self.clock.now()}).encode()
        return self.create_once(ref.wish(seq, kind), data, nonce)

    def read_wish(self, ref: JobRef, seq: int, kind: WishKind) -> dict[str, Any]:
        """What the user wrote. Raises NotFound, Conflict for something else."""
        try:
            values = json.loads(self.storage.get(ref.wish(seq, kind)))
        except ValueError:
            raise Conflict(f"{ref.wish(seq, kind)} is not JSON") from None
        if not isinstance(values, dict):
            raise Conflict(f"{ref.wish(seq, kind)} is no mapping")
        return values

    def view(self, ref: JobRef) -> JobView:
        """The job as it is.

        Raises:
            NotFound: there is no such job (any more, or yet).
            Conflict: its log has a gap, or holds something else; such a job is never claimed.
            Unsupported: written by another version.
        """
        before: set[str] = set()
        while True:
            names = {item.key[len(ref.folder) :] for item in self.storage.list(ref.folder)}
            if names.isdisjoint(("spec.json", "final.json")):
                raise NotFound(f"there is no job {ref}", fix="ifmdm jobs ls shows them")
            try:
                return self._read(ref, names)
            except NotFound:
                if names == before:
                    raise  # listed, and yet not there
                before = names  # cleaned up since it was listed: another listing shows what is left

    def _read(self, ref: JobRef, names: set[str]) -> JobView:
        if "final.json" in names:
            state = self._parsed(FinalRecord, ref.final).state
            return JobView(ref, 0, state, frozenset(), True, None, None)
        seqs = sorted(_seq(name) for name in names if name.startswith("log/"))
        if seqs != list(range(1, len(seqs) + 1)):
            raise Conflict(f"the log of {ref} has a gap: {seqs[:20]}", fix="ifmdm jobs fsck says more")
        wishes = frozenset(found for name in names if (found := _wish(name)) is not None)
        if not seqs:
            record = self.record(ref)
            return JobView(ref, 0, record.initial(), wishes, False, record, None)
        entry = self.entry(ref, seqs[-1])
        return JobView(ref, seqs[-1], entry.state, wishes, entry.kind == "closed", None, entry)

    def entry(self, ref: JobRef, seq: int) -> Entry:
        """One entry of the log. Raises NotFound, Conflict, Unsupported."""
        return self._parsed(Entry, ref.log(seq))

    def log(self, ref: JobRef) -> list[Entry]:
        """All entries. Raises as `view`."""
        return [self.entry(ref, seq) for seq in range(1, self.view(ref).seq + 1)]

    def history(self, ref: JobRef) -> tuple[Past, ...]:
        """What was in the log of a job of which only the record is kept. Raises NotFound, Conflict."""
        return self._parsed(FinalRecord, ref.final).history

    def record(self, ref: JobRef) -> JobRecord:
        """The job as accepted. Raises NotFound, Conflict, Unsupported."""
        record = self._parsed(JobRecord, ref.spec)
        if record.ref != ref:  # copied by hand: a tenant's rights come from the path
            raise Conflict(f"{ref.spec} is the job {record.ref}'s")
        return record

    def check_layout(self) -> None:
        """Raises NotFound where there is no store, Unsupported for one of another version."""
        try:
            data = self.storage.get(STORE)
        except NotFound:
            raise NotFound(
                f"{self.storage.root} is no job store: {STORE} is missing", fix="ifmdm jobs init makes one"
            ) from None
        try:
            layout = json.loads(data)["layout"]
        except (ValueError, KeyError, TypeError):
            raise Conflict(
                f"{STORE} in {self.storage.root} is damaged", fix="ifmdm jobs init --repair"
            ) from None
        if layout != LAYOUT:
            raise Unsupported(
                f"{self.storage.root} has layout {layout}, this version of ifmdm knows {LAYOUT}"
            )

    def _parsed(self, model: type[Model], key: str) -> Model:
        data = self.storage.get(key)
        try:
            values = json.loads(data)
            if isinstance(values, dict) and values.get("layout", LAYOUT) != LAYOUT:
                raise Unsupported(
                    f"{key} has layout {values['layout']}, this version of ifmdm knows {LAYOUT}"
                )
            return model.model_validate(values)
        except (ValueError, ValidationError, BadInput) as error:
            raise Conflict(
                f"{key} is damaged: {str(error).splitlines()[0]}", fix="ifmdm jobs fsck says more"
            ) from None


class Past(BaseModel):
    """One entry of a log that has gone."""

    kind: str
    at: float
    by: str
    state: State


class FinalRecord(BaseModel):
    """final.json: what is kept of a job whose log has gone."""

    layout: int = LAYOUT
    state: JobState
    at: float
    """When it was written, seconds since 1970."""
    history: tuple[Past, ...] = ()
    """Who wrote what, as far as its entries could be read."""


def new_worker_name(host: str) -> str:
    """A name no other worker has."""
    return f"{host[:40].lower()}.{secrets.token_hex(4)}"


def _seq(name: str) -> int:
    digits = name.removeprefix("log/").removesuffix(".json")
    return int(digits) if digits.isdigit() else -1


def _wish(name: str) -> tuple[int, WishKind] | None:
    if not name.startswith("wishes/"):
        return None
    digits, _, kind = name.removeprefix("wishes/").removesuffix(".json").partition("-")
    for known in WISHES:
        if kind == known and digits.isdigit():
            return int(digits), known
    return None
