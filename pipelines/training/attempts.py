"""Who trains a run: one attempt at a time, numbered, each knowing whether it is still the last.

    attempts/00000001/claim.json      create-only: which process on which machine
                      lease.json      rewritten while it lives; `ended` says how it went
                      progress.json   rewritten by the worker that leads: where it stands
                      stop            somebody wants it to write a checkpoint and end
                      fault.json      why trying again is of no use

A run whose lease was rewritten a short while ago is refused to others, so two drivers never train it together; a
driver that was cut off and comes back finds a higher number than its own and ends.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ifmdm_core import errors
from ifmdm_core.errors import Busy, Conflict, IfmdmError, NotFound, Unavailable
from ifmdm_core.storage import Storage
from pipelines.dataset.manifest import utc_now
from pipelines.training.run import RunFolder

LEASE_S = 5.0
"""Between two renewals of a lease."""
EXPIRES_S = 45.0
"""A lease that is older, by the store's clock, is no more."""
_RACES = 20


class Attempt:
    """One attempt at a run, seen from any process that takes part in it or looks at it."""

    def __init__(self, storage: Storage, number: int) -> None:
        self.storage, self.number = storage, number

    def key(self, name: str) -> str:
        return f"attempts/{self.number:08d}/{name}"

    @classmethod
    def last(cls, storage: Storage) -> Attempt | None:
        """The attempt with the highest number; None before the first."""
        numbers = [
            item.key.split("/")[1] for item in storage.list("attempts/") if item.key.endswith("/claim.json")
        ]
        return cls(storage, int(numbers[-1])) if numbers else None

    @classmethod
    def claim(cls, run: RunFolder, *, force: bool = False) -> Attempt:
        """Become the run's next attempt.

        Raises:
            Busy: another attempt lives (unless `force`).
        """
        storage = run.storage
        for _ in range(_RACES):
            last = cls.last(storage)
            nonce = f"{socket.gethostname()}/{os.getpid()}/{time.time_ns()}"
            mine = cls(storage, last.number + 1 if last else 1)
            if last is not None and not force:
                last.refuse_if_alive(run)
            data = json.dumps({"who": nonce, "created": utc_now()}).encode()
            try:
                won = storage.put_if_absent(mine.key("claim.json"), data)
            except Unavailable:
                time.sleep(0.2)
                won = (
                    storage.info(mine.key("claim.json")) is not None
                    and storage.get(mine.key("claim.json")) == data
                )
            if won:
                mine.renew()
                return mine
        raise Conflict(f"{run.uri}: lost {_RACES} races for an attempt", fix="another driver trains it")

    def refuse_if_alive(self, run: RunFolder) -> None:
        """Raises Busy when this attempt's lease is young and not ended."""
        try:
            state = json.loads(self.storage.get(self.key("lease.json")))
        except NotFound:
            state = {}
        if state.get("ended"):
            return
        kept = self.storage.info(self.key("lease.json")) or self.storage.info(self.key("claim.json"))
        assert kept is not None
        probe = self.key(f"probe-{uuid.uuid4().hex}")  # nobody else deletes it
        self.storage.put(probe, b"")  # its time is now by the clock that dated the lease
        now = self.storage.info(probe)
        self.storage.delete(probe)
        age = (now.modified - kept.modified).total_seconds() if now else EXPIRES_S
        if age < EXPIRES_S:
            who = json.loads(self.storage.get(self.key("claim.json")))["who"]
            raise Busy(
                f"{run.uri} is being trained by {who} (seen {max(0.0, age):.0f} s ago)",
                fix=f"wait for it, end it, or give --force if it is dead (it counts as dead after {EXPIRES_S:.0f} s)",
                retry_after=EXPIRES_S,
            )

    def is_last(self) -> bool:
        """Whether no later attempt has been claimed."""
        last = Attempt.last(self.storage)
        return last is None or last.number <= self.number

    def renew(self, ended: str | None = None) -> None:
        """Rewrite the lease."""
        self.storage.put(self.key("lease.json"), json.dumps({"at": utc_now(), "ended": ended}).encode())

    def ended(self) -> str | None:
        """How it ended; None while it lives, or died without a word."""
        try:
            found = json.loads(self.storage.get(self.key("lease.json"))).get("ended")
        except NotFound:
            return None
        return str(found) if found else None

    def ask_to_stop(self) -> None:
        """Have the workers write a checkpoint and end."""
        self.storage.put(self.key("stop"), b"")

    def asked_to_stop(self) -> bool:
        """Whether somebody did, or a later attempt has taken over."""
        return self.storage.info(self.key("stop")) is not None or not self.is_last()

    def tell(self, progress: dict[str, Any]) -> None:
        """Say where it stands."""
        self.storage.put(self.key("progress.json"), json.dumps(progress).encode())

    def told(self) -> dict[str, Any] | None:
        """What was said last."""
        try:
            found: dict[str, Any] = json.loads(self.storage.get(self.key("progress.json")))
        except (NotFound, ValueError):
            return None
        return found

    def give_up(self, error: IfmdmError) -> None:
        """Keep an error that would come again: workers that start after this end at once."""
        fault = {"kind": type(error).__name__, "what": error.what, "fix": error.fix}
        self.storage.put(self.key("fault.json"), json.dumps(fault).encode())

    def fault(self) -> IfmdmError | None:
        """That error."""
        try:
            values = json.loads(self.storage.get(self.key("fault.json")))
        except NotFound:
            return None
        kinds = {"Diverged": _diverged(), **vars(errors)}
        kind = kinds.get(values["kind"], IfmdmError)
        usable = isinstance(kind, type) and issubclass(kind, IfmdmError)
        return (kind if usable else IfmdmError)(values["what"], fix=values["fix"])


def _diverged() -> type[IfmdmError]:
    from ifmdm_core.training.loop import Diverged

    return Diverged


class Repeating:
    """Calls something every `seconds` in a thread while the `with` block runs; a busy store is waited out."""

    def __init__(self, call: Callable[[], None], seconds: float) -> None:
        self._call, self._seconds = call, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Repeating:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._call()
            except IfmdmError:
                continue  # the next call may reach the store again
