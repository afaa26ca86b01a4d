"""Scaling by what waits outside of Serve too: renders in a queue that have not become calls yet.

Whoever drives such renders writes how many wait to backlog.json under the service's root. Serve's controller asks the
policy below about once a second; it answers from a snapshot that a thread of its own renews, and never waits.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingContext

from ifmdm_core.errors import IfmdmError, NotFound
from ifmdm_core.storage import Storage, open_storage

BACKLOG = "backlog.json"
REFRESH_S = 5.0
"""Between two looks at it."""
STALE_S = 90.0
"""Seconds without a new one after which it counts for nothing: whoever wrote it has gone."""

_log = logging.getLogger(__name__)


class Backlog(BaseModel):
    """backlog.json"""

    model_config = ConfigDict(extra="ignore")

    waiting: int
    """Renders that could start now."""
    at: float
    """Seconds since 1970; makes every writing another one."""


def write_backlog(storage: Storage, waiting: int, at: float) -> None:
    """Tells the service of what waits. Raises Unavailable."""
    storage.put(BACKLOG, Backlog(waiting=waiting, at=at).model_dump_json().encode())


class BacklogSnapshot:
    """The last backlog that was read. Its age is told by a steady clock.

    Args:
        monotonic: that clock, this machine's or a simulation's.
        follows: renewed by a thread, from the first question on; else by whoever calls `look`.
    """

    def __init__(
        self, storage: Storage, monotonic: Callable[[], float] = time.monotonic, follows: bool = True
    ) -> None:
        self._storage, self._monotonic, self._follows = storage, monotonic, follows
        self._last: Backlog | None = None
        self._changed_at = -math.inf
        self._thread: threading.Thread | None = None

    def waiting(self) -> int:
        """How many wait; 0 where nobody has said so lately."""
        if self._follows and self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="backlog", daemon=True)
            self._thread.start()
        last = self._last
        return last.waiting if last is not None and self._monotonic() - self._changed_at < STALE_S else 0

    def look(self) -> None:
        """Reads it now."""
        try:
            found = Backlog.model_validate_json(self._storage.get(BACKLOG))
        except (NotFound, ValidationError):
            return
        if found != self._last:
            self._last, self._changed_at = found, self._monotonic()

    def _follow(self) -> None:
        while True:
            try:
                self.look()
            except IfmdmError as error:
                _log.warning("the backlog is not read: %s", error)
            time.sleep(REFRESH_S)


class LoadAndBacklog:
    """Serve's own rule, or a replica for every so many renders that wait, whichever is more.

    Made by Serve, in its controller, from `policy_kwargs`.

    Args:
        root: the service's.
        per_replica: waiting renders for which there should be a replica.
        snapshot: of what waits; None makes one that follows the root's backlog.json.
    """

    def __init__(self, root: str, per_replica: float, snapshot: BacklogSnapshot | None = None) -> None:
        self._snapshot = snapshot or BacklogSnapshot(open_storage(root))
        self._per_replica = per_replica

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Replicas wanted; Serve applies bounds and delays."""
        by_load, state = replica_queue_length_autoscaling_policy(context)
        by_backlog = math.ceil(self._snapshot.waiting() / self._per_replica)
        return max(by_load, by_backlog), state
