"""Whether a store does what jobs stand on; one that does not is refused before anything is lost in it."""

from __future__ import annotations

import contextlib
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ifmdm_core.errors import IfmdmError, NotFound, Unavailable, Unsupported
from ifmdm_core.storage import Storage

FOLDER = "probe/"
WRITERS = 8
ROUNDS = 2
_TRIES = 5  # races until so many rounds had an outcome
_SKEW_S = 5.0  # that a store may be ahead of itself
_AGE_S = 60.0  # that a new object may seem old: the silence after which a worker counts as dead
_FIX = "use AWS S3, a MinIO release of August 2024 or later, or a folder"


@dataclass(frozen=True)
class Probe:
    """What was found out about a store that jobs can stand on."""

    root: str
    age_s: float
    """What the store took for the age of an object just written."""
    versioned: bool | None
    """Whether it keeps old versions; None when it does not say."""
    guards_deletes: bool
    """Whether it refuses to delete another version than the one named."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What costs money or leaves a gap, but loses no job; one line each."""
        found = []
        if self.versioned:
            found.append(
                f"{self.root} keeps every version: heartbeats and hints that were deleted are stored and paid for; "
                "suspend the bucket's versioning or let noncurrent versions expire"
            )
        if not self.guards_deletes:
            found.append(
                f"{self.root} ignores If-Match on deletes: a file put into the inbox again while its job is being "
                "accepted may be lost; use another name for each"
            )
        return tuple(found)


def probe(storage: Storage) -> Probe:
    """Race creates of fresh keys, read back what listings, deletions and ages say, and clean up.

    About forty requests, under `probe/`.

    Raises:
        Unsupported: the store does something else than jobs need; says what, and which stores will do.
        Forbidden, NotFound: no right to try, no bucket.
        Unavailable: it does not answer, or too rarely to tell.
    """
    prefix = f"{FOLDER}{secrets.token_hex(8)}-"
    try:
        _refuse_second_creates(storage, f"{prefix}twice")
        _race(storage, f"{prefix}race")
        _list_and_delete(storage, prefix)
        return Probe(
            root=str(storage.root),
            age_s=_age(storage, f"{prefix}age"),
            versioned=storage.versioned(),
            guards_deletes=_guards_deletes(storage, f"{prefix}guarded"),
        )
    finally:
        with contextlib.suppress(IfmdmError):  # what stays is small, and the first error says more
            for item in storage.list(prefix):
                storage.delete(item.key)


def _refuse_second_creates(storage: Storage, key: str) -> None:
    """One after the other; the plainest way to find a store that takes no notice of the condition."""
    created = storage.put_if_absent(key, b"first")
    again = storage.put_if_absent(key, b"second")
    if not created:
        raise _unsupported(storage, "refuses to create a key where nothing is")
    if again or storage.get(key) != b"first":
        raise _unsupported(
            storage, "ignores If-None-Match: a second create of the same key overwrote the first"
        )


def _race(storage: Storage, key: str) -> None:
    """At the same moment; finds a store that looks first and writes afterwards."""
    told = 0
    for attempt in range(_TRIES):
        told += _one_winner(storage, f"{key}{attempt}")
        if told == ROUNDS:
            return
    raise Unavailable(f"{storage.root} answers too rarely to learn whether it can hold jobs", retry_after=5.0)


def _one_winner(storage: Storage, key: str) -> bool:
    """One race. False: its outcome is not known, for which a store that is busy with the others may be excused."""
    together = threading.Barrier(WRITERS)
    bodies = [f"{writer} {secrets.token_hex(8)}".encode() for writer in range(WRITERS)]

    def create(body: bytes) -> bool | None:
        together.wait()
        try:
            return storage.put_if_absent(key, body)
        except Unavailable:
            return None

    with ThreadPoolExecutor(WRITERS) as pool:
        outcomes = list(pool.map(create, bodies))
    winners = [body for body, won in zip(bodies, outcomes, strict=True) if won]
    if len(winners) > 1:
        raise _unsupported(
            storage,
            f"does not honour If-None-Match: {len(winners)} of {WRITERS} creates of one key succeeded",
        )
    if winners and storage.get(key) != winners[0]:
        raise _unsupported(storage, "does not honour If-None-Match: what the one creator wrote was replaced")
    if not winners and None not in outcomes:
        raise _unsupported(storage, "refuses to create a key where nothing is")
    return bool(winners)


def _list_and_delete(storage: Storage, prefix: str) -> None:
    """What is written is listed at once, what is deleted is gone at once."""
    key = f"{prefix}listed"
    storage.put(key, b"1")
    if key not in {item.key for item in storage.list(prefix)}:
        raise _unsupported(storage, "does not list an object that was just written")
    if FOLDER.rstrip("/") not in storage.folders():
        raise _unsupported(storage, "does not tell the folders of a listing (Delimiter, CommonPrefixes)")
    storage.delete(key)
    if key in {item.key for item in storage.list(prefix)}:
        raise _unsupported(storage, "lists an object that was just deleted")
    with contextlib.suppress(NotFound):
        storage.get(key)
        raise _unsupported(storage, "gives an object that was just deleted")
    if not storage.put_if_absent(key, b"2"):
        raise _unsupported(storage, "does not let a deleted key be created again")


def _age(storage: Storage, key: str) -> float:
    """Seconds that a new object counts. A second look excuses a store that was slow at the first."""
    for last in (False, True):
        storage.put(key, b"")
        age = storage.age(key)
        if age is None:
            raise _unsupported(storage, "does not find an object that was just written")
        if -_SKEW_S <= age <= _AGE_S:
            return age
        if last:
            raise Unsupported(
                f"{storage.root} is not sure about the time: an object just written is {age:.0f} s old to it",
                fix="set the store's clocks, or use another store",
            )
    raise AssertionError


def _guards_deletes(storage: Storage, key: str) -> bool:
    storage.put(key, b"old")
    seen = storage.info(key)
    storage.put(key, b"new")
    return seen is not None and not storage.delete_if(key, seen.etag)


def _unsupported(storage: Storage, what: str) -> Unsupported:
    return Unsupported(f"{storage.root} cannot hold jobs: it {what}", fix=_FIX)
