"""Logs of attempts, as they lie in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ifmdm_core.errors import NotFound
from jobs.names import JobRef
from jobs.rendering.attempt_log import LOG
from jobs.store import JobStore

Line = dict[str, Any]
"""Time (ISO, UTC), event, and what belongs to it."""


def attempts(store: JobStore, ref: JobRef) -> list[int]:
    """Numbers of the attempts that left something behind, in order."""
    return sorted(int(name) for name in store.storage.folders(f"attempts/{ref}/") if name.isdigit())


def attempt_log(store: JobStore, ref: JobRef, epoch: int) -> Iterator[Line]:
    """Its lines; none where there is no log (yet). A line that cannot be read is given as {"event": "?"}."""
    try:
        text = store.storage.get(f"{ref.attempt(epoch)}/{LOG}").decode("utf-8", "replace")
    except NotFound:
        return
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        yield values if isinstance(values, dict) else {"event": "?", "line": line}
