"""Entries on run storage: a chain of numbered, create-only files that any process may go on with.

    spool/run.json        who this is (`TrackedRun`)
    spool/00000001.jsonl  a head (`Head`), then entries

Of each kind only steps beyond the newest one in the chain are added. So what a restarted training repeats is in the
chain once, with the time and value of its first telling, and MLflow, which is told from the chain alone, has it once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import Storage
from pipelines.retry import with_retries
from pipelines.tracking.entries import ENTRY, Entry, Status
from pipelines.tracking.tracked_run import TrackedRun

FOLDER = "spool"
_RUN = f"{FOLDER}/run.json"


class Head(BaseModel):
    """First line of a file of the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    number: int = 0
    newest: dict[str, int] = Field(
        default_factory=dict, description="the last step of each kind, this file included"
    )
    status: str = Field("", description="the last status told")


class Spool:
    """The chain of one run, added to by one training, read by anyone.

    Args:
        storage: the run's.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._waiting: list[Entry] = []
        self._adding, self._flushing = threading.Lock(), threading.Lock()
        self._head: Head | None = None

    def describe(self, run: TrackedRun) -> TrackedRun:
        """Write who this is, once; returns what was written the first time."""
        _create(self.storage, _RUN, run.model_dump_json(indent=1).encode())
        return self.run()

    def run(self) -> TrackedRun:
        """Who this is.

        Raises:
            NotFound: no tracked training here.
        """
        try:
            return TrackedRun.model_validate_json(self.storage.get(_RUN))
        except NotFound:
            raise NotFound(
                f"{self.storage.root} holds no tracked training (no {_RUN})", fix="give the folder of one run"
            ) from None

    def add(self, entries: Sequence[Entry]) -> None:
        """Remember entries until the next flush; cheap."""
        with self._adding:
            self._waiting += entries

    def flush(self) -> int:
        """Make what was added durable; returns the number of the newest file, 0 if there is none.

        Raises:
            Unavailable: the store does not answer; nothing is forgotten, flush again.
        """
        with self._flushing:
            with self._adding:
                waiting = list(self._waiting)
            head = self._head or self._last()
            while fresh := _beyond(head, waiting):
                after = _advanced(head, fresh)
                lines = [after.model_dump_json(), *(entry.model_dump_json() for entry in fresh)]
                if _create(self.storage, _key(after.number), "\n".join(lines).encode() + b"\n"):
                    head = after
                    break
                # An earlier attempt that is not dead yet has told something meanwhile: go on behind it.
                head = self._read(head.number + 1)[0]
            self._head = head
            with self._adding:
                del self._waiting[: len(waiting)]
            return head.number

    @property
    def waiting(self) -> int:
        """Entries that are in memory only."""
        with self._adding:
            return len(self._waiting)

    def newest(self) -> int:
        """The number of the newest file on storage, 0 if there is none."""
        numbers = [_number(item.key) for item in self.storage.list(f"{FOLDER}/")]
        return max((number for number in numbers if number is not None), default=0)

    def status(self) -> str:
        """The last status told, "" before the first."""
        return self._last().status

    def read(self, number: int) -> list[Entry]:
        """The entries of one file, in order."""
        return self._read(number)[1]

    def entries(self) -> list[Entry]:
        """All entries, in order: the whole course of the training."""
        return [entry for number in range(1, self.newest() + 1) for entry in self.read(number)]

    def _last(self) -> Head:
        number = self.newest()
        return self._read(number)[0] if number else Head()

    def _read(self, number: int) -> tuple[Head, list[Entry]]:
        key = _key(number)
        try:
            head, *lines = self.storage.get(key).splitlines()
            return Head.model_validate_json(head), [ENTRY.validate_json(line) for line in lines]
        except ValueError as error:
            raise BadInput(
                f"{self.storage.root}/{key} cannot be read: {error}",
                fix="restore it from a backup of the run",
            ) from None


def _beyond(head: Head, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that the chain does not have."""
    newest = dict(head.newest)
    fresh: list[Entry] = []
    for entry in entries:
        if not isinstance(entry, Status):
            if entry.step <= newest.get(entry.kind, -1):
                continue
            newest[entry.kind] = entry.step
        fresh.append(entry)
    return fresh


def _advanced(head: Head, entries: Sequence[Entry]) -> Head:
    newest = head.newest | {entry.kind: entry.step for entry in entries if not isinstance(entry, Status)}
    told = [entry.status for entry in entries if isinstance(entry, Status)]
    return Head(number=head.number + 1, newest=newest, status=told[-1] if told else head.status)


def _create(storage: Storage, key: str, data: bytes) -> bool:
    """Create `key`; whether `data` is what is there now, also when the store's first answer was lost."""
    created = with_retries(lambda: storage.put_if_absent(key, data), f"writing {key}")
    return created or with_retries(lambda: storage.get(key), f"reading {key}") == data


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.jsonl"


def _number(key: str) -> int | None:
    name, _, kind = key.removeprefix(f"{FOLDER}/").partition(".")
    return int(name) if kind == "jsonl" and name.isdigit() else None
