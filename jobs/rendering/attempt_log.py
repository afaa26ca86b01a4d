"""What happened in one attempt, for people: lines of JSON in its folder, written when it is over."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from ifmdm_core.errors import IfmdmError
from ifmdm_core.storage import Storage
from jobs.clock import Clock

LOG = "log.jsonl"
"""Its name in the attempt's folder."""

_log = logging.getLogger(__name__)


class AttemptLog:
    """Events as they come; threads may share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: list[str] = []

    def note(self, event: str, **fields: Any) -> None:
        """One more, now. Fields are plain data."""
        time = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds")
        self._lines.append(json.dumps({"time": time, "event": event, **fields}))

    def error(self, error: BaseException) -> None:
        """Why the attempt ends. What is no error of ours is a fault in the code, and its place is noted."""
        fields: dict[str, Any] = {"error": type(error).__name__, "what": str(error)}
        if isinstance(error, IfmdmError):
            fields |= {"what": error.what, "fix": error.fix, "field": error.field}
        else:
            place = traceback.extract_tb(error.__traceback__)[-1:]
            fields["at"] = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in place]
        self.note("error", **fields)

    def text(self) -> str:
        """All lines."""
        return "".join(f"{line}\n" for line in self._lines)


def put_quietly(storage: Storage, key: str, text: str) -> None:
    """Writes something that a render does not depend on: a failure is only logged here."""
    try:
        storage.put(key, text.encode())
    except Exception as error:
        _log.warning("%s is not written: %s", key, error)
