"""Batches made ahead in a thread, and how long the loop had to wait for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from ifmdm_core.training.task import Share


class Feed:
    """Iterates shares and collates them in a thread, at most `depth` ahead; a context manager."""

    def __init__(self, shares: Iterator[Share], collate: Callable[[Share], Any], depth: int = 3) -> None:
        self.waited = 0.0
        """Seconds that `next` has waited so far."""
        self._queue: queue.Queue[tuple[Share, Any] | BaseException] = queue.Queue(depth)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(shares, collate), daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)

    def next(self) -> tuple[Share, Any]:
        """The next share and its batch. Raises what reading or collating raised."""
        started = time.monotonic()
        item = self._queue.get()
        self.waited += time.monotonic() - started
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self, shares: Iterator[Share], collate: Callable[[Share], Any]) -> None:
        try:
            for share in shares:
                if not self._put((share, collate(share))):
                    return
            raise RuntimeError("a batch source ended; it must go on without end")
        except BaseException as error:
            self._put(error)

    def _put(self, item: tuple[Share, Any] | BaseException) -> bool:
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
