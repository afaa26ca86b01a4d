"""The leader's side thread: tells storage how far the training is, and hears wishes to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ifmdm_core.training.fit import Progress
from pipelines.training.attempts import Attempt


class Watch:
    """Give `progress` to `fit`, look at `stop`, call `tick` now and then."""

    def __init__(
        self, attempt: Attempt, steps: int, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self.stop = threading.Event()
        self._attempt, self._steps, self._on_progress = attempt, steps, on_progress
        self._news: dict[str, Any] | None = None

    def progress(self, progress: Progress) -> None:
        """Remember where it stands."""
        self._news = {
            "step": progress.state.step,
            "steps": self._steps,
            "fraction": round(progress.state.fraction, 6),
            "elapsed_s": round(progress.state.elapsed, 3),
            "steps_per_s": round(progress.steps_per_s, 4),
            "waiting": round(progress.waiting, 4),
            "values": progress.values,
            "at": time.time(),
        }
        if self._on_progress is not None:
            self._on_progress(progress)

    def tick(self) -> None:
        """Tell what is new, and look whether somebody wants the training to end."""
        self.tell()
        if self._attempt.asked_to_stop():
            self.stop.set()

    def tell(self) -> None:
        """Tell what is new."""
        news, self._news = self._news, None
        if news is not None:
            self._attempt.tell(news)
