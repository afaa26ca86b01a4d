"""The audit log: who did what, when, to which digests. Create-only objects, each naming the one before it by its hash.

    audit/<tenant>/changes/<seq>.json          what few people do seldom: one chain for all of them
    audit/<tenant>/<day>.<writer>/<seq>.json   what one process does all day: a chain of its own

A page that is changed, or taken from the middle of a chain, shows: see `audit_check`. It holds digests and names, no
content. `ALL` stands for the store itself where nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import NotFound, Unavailable
from ifmdm_core.storage import Storage

FOLDER = "audit/"
CHANGES = "changes"
ALL = "_all"
"""In place of a tenant; none can have that name."""
PAGE = 500
"""Events of one object."""
HELD = 20_000
"""Events that wait for a store that is away; the oldest go first, and how many went is told in the log."""
ROUNDS = 20

What = Literal[
    "policy changed", "portrait denied", "denial lifted", "portrait registered", "refused", "rendered",
    "model switched", "cleaned up",
]  # fmt: skip


class Event(BaseModel):
    """Something somebody did, or was not allowed to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    """Seconds since 1970 by whoever writes; when its page was stored, the store says itself."""
    what: What
    who: str
    """A token's name, a user, a worker."""
    subject: str
    """What it was done to: a render's id, a portrait's digest, a tenant."""
    digests: dict[str, str] = Field(default_factory=dict)
    note: str = ""


class Before(BaseModel):
    """The page before this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    at: float
    """When it was written, by its writer."""


class Page(BaseModel):
    """One object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal[1] = 1
    nonce: str
    at: float
    before: Before | None
    """None at the beginning of a chain."""
    events: tuple[Event, ...]


class AuditLog:
    """One process's pen. For any number of threads.

    Args:
        storage: the root that `audit/` lies under.
        who: the process, in the names of its chains.
        now: seconds since 1970.
    """

    def __init__(self, storage: Storage, who: str, now: Callable[[], float] = time.time) -> None:
        self._storage, self._now = storage, now
        slug = re.sub(r"[^a-z0-9@-]", "-", who.lower())[:40].strip("-") or "process"
        self._writer = f"{slug}-{secrets.token_hex(4)}"
        self._turn, self._writing = threading.Lock(), threading.Lock()
        self._noted: dict[str, deque[Event]] = {}
        self._dropped = 0
        self._last: dict[str, Before] = {}
        self._doubt: dict[str, tuple[str, bytes, int]] = {}
        """By tenant: a page of which it is not known whether it was written, and its number of events."""

    def note(
        self, tenant: str, what: What, who: str, subject: str, digests: dict[str, str] | None = None,
        note: str = "",
    ) -> None:  # fmt: skip
        """Remembers an event for the next `flush`. Never blocks, never raises."""
        event = Event(at=self._now(), what=what, who=who, subject=subject, digests=digests or {}, note=note)
        with self._turn:
            noted = self._noted.setdefault(tenant, deque())
            if len(noted) >= HELD:
                self._dropped += 1
                return
            noted.append(event)

    def flush(self) -> int:
        """Writes what was noted, a page a tenant; how many events. Raises Unavailable, and keeps what is left."""
        written = 0
        with self._writing:
            for tenant in [tenant for tenant, noted in self._noted.items() if noted]:
                while self._noted[tenant]:
                    written += self._page(tenant)
        return written

    def change(
        self, tenant: str, what: What, who: str, subject: str, digests: dict[str, str] | None = None,
        note: str = "",
    ) -> None:  # fmt: skip
        """Writes an event into the chain that all writers share. Raises Unavailable: it may or may not be there."""
        event = Event(at=self._now(), what=what, who=who, subject=subject, digests=digests or {}, note=note)
        folder = f"{FOLDER}{tenant}/{CHANGES}/"
        for _ in range(ROUNDS):
            keys = [item.key for item in self._storage.list(folder)]
            before = self._named(keys[-1]) if keys else None
            key = f"{folder}{_seq(keys[-1]) + 1 if keys else 1:08d}.json"
            if self._create(key, self._bytes(before, (event,))):
                return
        raise Unavailable(f"{folder}: many write there right now", fix="try again", retry_after=5.0)

    def _page(self, tenant: str) -> int:
        """Writes the next page of a tenant's chain; its number of events."""
        noted, before = self._noted[tenant], self._last.get(tenant)
        if tenant not in self._doubt:
            events = tuple(noted[index] for index in range(min(PAGE, len(noted))))
            folder = f"{FOLDER}{tenant}/{datetime.fromtimestamp(self._now(), UTC):%Y%m%d}.{self._writer}/"
            same = before is not None and before.key.startswith(folder)
            seq = _seq(before.key) + 1 if before is not None and same else 1
            self._doubt[tenant] = f"{folder}{seq:08d}.json", self._bytes(before, events), len(events)
        # The same bytes until the answer is clear: an event is never there twice.
        key, data, count = self._doubt[tenant]
        if not self._create(key, data):
            raise Unavailable(f"{key} is there already, and is not ours", fix="look who wrote it")
        self._last[tenant] = Before(key=key, sha256=sha256(data), at=self._now())
        del self._doubt[tenant]
        with self._turn:
            for _ in range(count):
                noted.popleft()
        return count

    def _bytes(self, before: Before | None, events: tuple[Event, ...]) -> bytes:
        page = Page(nonce=secrets.token_hex(12), at=self._now(), before=before, events=events)
        return page.model_dump_json().encode()

    def _named(self, key: str) -> Before:
        data = self._storage.get(key)
        try:
            at = float(json.loads(data)["at"])
        except (ValueError, KeyError, TypeError):
            at = self._now()  # damaged: `audit_check` says so, and the chain goes on
        return Before(key=key, sha256=sha256(data), at=at)

    def _create(self, key: str, data: bytes) -> bool:
        """True when `key` holds these bytes, False when it holds others. Raises Unavailable."""
        try:
            if self._storage.put_if_absent(key, data):
                return True
        except Unavailable:
            pass  # it may have happened
        try:
            return self._storage.get(key) == data
        except NotFound:
            raise Unavailable(f"{key} is not written", fix="try again", retry_after=5.0) from None


def sha256(data: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _seq(key: str) -> int:
    digits = key.rpartition("/")[2].removesuffix(".json")
    return int(digits) if digits.isdigit() else 0
