"""How far a run is: a live bar on a terminal, one line a minute in a log, JSON at the end."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

INTERVAL_S = 60.0
"""Between two lines of a log, and between two lines about the same cause of retries."""
RATE_S = 60.0
"""The frame rate shown is that of so many last seconds."""

_QUOTED = re.compile(r"'[^']*'")


class Progress:
    """Counts of one stage. Use as a context manager; the driver calls `advance` and, while it waits, `tick`.

    Args:
        stage: what runs, e.g. "clips".
        shards, videos, clips: how many there are in all, with those that an earlier run finished; None is unknown.
        done_shards, done_videos, done_clips: finished by an earlier run: shown, but not in rates.
        out: where to write; standard error by default.
        live: a bar instead of lines; by default if `out` is a terminal.
        clock: seconds, monotonic.
        now: the time of day of a line.
    """

    def __init__(
        self,
        stage: str,
        shards: int,
        videos: int | None = None,
        clips: int | None = None,
        *,
        done_shards: int = 0,
        done_videos: int = 0,
        done_clips: int = 0,
        out: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.stage = stage
        self.totals = {"shards": shards, "videos": videos, "clips": clips}
        self.before = {"shards": done_shards, "videos": done_videos, "clips": done_clips}
        self.done = {"shards": 0, "videos": 0, "clips": 0, "frames": 0, "quarantined": 0}
        self.queued = self.running = 0
        self.causes: dict[str, int] = {}
        self._out = out or sys.stderr
        self._live = self._out.isatty() if live is None else live
        self._clock, self._now = clock, now
        self._began = self._spoke = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])
        self._told: dict[str, float] = {}
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[said]}"),
            )
            self._bar = Bar(*columns, console=Console(file=self._out), transient=True)
            self._bar.add_task(self.stage, total=self.totals["shards"], said="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._write(self.line())

    def advance(
        self, *, shards: int = 0, videos: int = 0, clips: int = 0, frames: int = 0, quarantined: int = 0
    ) -> None:
        """Add what has been finished since the last call."""
        added = {
            "shards": shards,
            "videos": videos,
            "clips": clips,
            "frames": frames,
            "quarantined": quarantined,
        }
        for name, count in added.items():
            self.done[name] += count
        at = self._clock()
        self._samples.append((at, self.done["frames"]))
        while len(self._samples) > 2 and self._samples[1][0] <= at - RATE_S:
            self._samples.popleft()
        self.tick()

    def load(self, queued: int, running: int) -> None:
        """Tell how many shards wait and how many are at work."""
        self.queued, self.running = queued, running
        self.tick()

    def retrying(self, cause: str) -> None:
        """Show why something is tried again: at most one line a minute for causes that differ only in what they name."""
        kind = _QUOTED.sub("...", cause)
        self.causes[kind] = times = self.causes.get(kind, 0) + 1
        at = self._clock()
        if at - self._told.get(kind, at - INTERVAL_S) >= INTERVAL_S:
            self._told[kind] = at
            again = f" ({times} times so far)" if times > 1 else ""
            self._write(f"{self._now():%H:%M:%S} {self.stage} trying again: {cause}{again}")

    def tick(self) -> None:
        """Redraw the bar, or write the line that is due. Cheap; call it as often as you like."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            completed = self.before["shards"] + self.done["shards"]
            self._bar.update(task, completed=completed, said=self._said())
        elif self._clock() - self._spoke >= INTERVAL_S:
            self._spoke = self._clock()
            self._write(self.line())

    def line(self) -> str:
        """`12:00:31 clips 12/32 shards, 1034/2533 videos, 41,200 frames, 310 frames/s, ...`"""
        return f"{self._now():%H:%M:%S} {self.stage} {self._said()}"

    def rate(self) -> float:
        """Frames per second over the last minute."""
        (since, before), at = self._samples[0], self._clock()
        for moment, frames in self._samples:  # the last sample that is a minute old
            if moment > at - RATE_S:
                break
            since, before = moment, frames
        return (self.done["frames"] - before) / max(at - since, 1e-3)

    def eta_s(self) -> float | None:
        """Seconds that are left at the pace of this run so far; None before anything is done."""
        for name in ("videos", "clips", "shards"):
            total = self.totals[name]
            if total is not None:
                left = total - self.before[name] - self.done[name]
                spent = self._clock() - self._began
                return spent * left / self.done[name] if self.done[name] else (0.0 if left <= 0 else None)
        return None

    def summary(self) -> dict[str, Any]:
        """Everything as JSON-able values."""
        seconds = self._clock() - self._began
        return {
            "stage": self.stage,
            **self.done,
            "totals": self.totals,
            "done_before": self.before,
            "seconds": round(seconds, 3),
            "frames_per_s": round(self.done["frames"] / max(seconds, 1e-3), 2),
            "retries": dict(sorted(self.causes.items())),
        }

    def _said(self) -> str:
        parts = []
        for name in ("shards", "videos", "clips"):
            total, done = self.totals[name], self.before[name] + self.done[name]
            if total is not None:
                parts.append(f"{done}/{total} {name}")
            elif done:
                parts.append(f"{done:,} {name}")
        parts += [f"{self.done['frames']:,} frames", f"{self.rate():,.0f} frames/s"]
        parts.append(f"{self.done['quarantined']:,} quarantined")
        if self.queued or self.running:
            parts.append(f"{self.queued:,} queued, {self.running:,} running")
        eta = self.eta_s()
        if eta:
            parts.append(f"ETA {_duration(eta)}")
        return ", ".join(parts)

    def _write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._out, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
