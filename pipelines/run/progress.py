"""How far a run is: a live bar on a terminal, one line a minute in a log, JSON at the end."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from pipelines.run.display import INTERVAL_S, Display, duration

RATE_S = 60.0
"""The frame rate shown is that of so many last seconds."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Progress:
    """Counts of one stage, shown while the `with` block runs and once more at its end.

    Args:
        stage: what runs, e.g. "clips".
        quiet: show nothing; `summary` still has it all.
        out: where to write; standard error by default.
        live: a bar instead of lines; by default if `out` is a terminal.
        clock: seconds, monotonic.
        now: the time of day of a line.
    """

    def __init__(
        self,
        stage: str,
        quiet: bool = False,
        *,
        out: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.stage = stage
        self.done = dict.fromkeys(("probed", "shards", "videos", "clips", "frames", "quarantined"), 0)
        self.sources = self.total_shards = self.running = 0
        self.failures: dict[str, str] = {}
        self.causes: Counter[str] = Counter()
        self._display = Display(stage, quiet, out=out, live=live, now=now)
        self._clock = clock
        self._began = self._spoke = self._cutting = clock()
        self._seconds = [0.0, 0.0]  # of video: done, in all
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])
        self._told: dict[str, float] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()

    def __enter__(self) -> Progress:
        self._display.open("")
        threading.Thread(target=self._keep_ticking, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with self._lock:
            self._display.close()
            self.running = 0
            if kind is None or any(self.done.values()):
                self._display.write(self._said())

    def start(self, sources: int) -> None:
        """SOURCE has been listed."""
        self.sources = sources

    def probed(self, count: int, refused: int) -> None:
        """So many more sources have been looked at; `refused` of all so far cannot be used."""
        with self._lock:
            self.done["probed"] += count
            self.done["quarantined"] = refused

    def shards(self, count: int, seconds: float) -> None:
        """The work of this run is known: shards, and the seconds of video in them."""
        with self._lock:
            self.total_shards, self._seconds[1] = count, seconds
            self._cutting = self._clock()
            self._samples = deque([(self._cutting, self.done["frames"])])

    def shard(
        self, *, seconds: float, videos: int, clips: int, frames: int, quarantined: int, running: int
    ) -> None:
        """One shard is finished.

        Args:
            seconds: of video, its part of what `shards` was given.
            running: shards at work now.
        """
        added = {
            "shards": 1, "videos": videos, "clips": clips, "frames": frames, "quarantined": quarantined,
        }  # fmt: skip
        with self._lock:
            for name, count in added.items():
                self.done[name] += count
            self._seconds[0] += seconds
            self.running = running
            self._samples.append((self._clock(), self.done["frames"]))
            while len(self._samples) > 2 and self._samples[1][0] <= self._clock() - RATE_S:
                self._samples.popleft()
        self.tick()

    def failed(self, name: str, why: str) -> None:
        """A shard is given up in this run."""
        with self._lock:
            self.failures[name] = why
            self._display.write(f"{name} is not made: {why}")

    def retry(self, name: str, cause: str) -> None:
        """Show why `name` is tried again: a line each `INTERVAL_S` at most for causes that differ only in names."""
        kind = _QUOTED.sub("...", cause)
        with self._lock:
            self.causes[kind] += 1
            at, times = self._clock(), self.causes[kind]
            if at - self._told.get(kind, at - INTERVAL_S) >= INTERVAL_S:
                self._told[kind] = at
                again = f" ({times} times so far)" if times > 1 else ""
                self._display.write(f"{name} is tried again: {cause}{again}")

    def tick(self) -> None:
        """Redraw the bar, or write the line that is due."""
        with self._lock:
            done, total = self._seconds
            if self._display.draw(self._said(), done, total or None):
                return
            if self._clock() - self._spoke >= INTERVAL_S:
                self._spoke = self._clock()
                self._display.write(self._said())

    def line(self) -> str:
        """`12:00:31 clips 12/32 shards, 1,034 videos, 950 clips, 41,200 frames, 310 frames/s, ...`"""
        return self._display.line(self._said())

    def rate(self) -> float:
        """Frames per second over the last minute, or since the first shard began if that is less."""
        since, before = self._samples[0]
        return (self.done["frames"] - before) / max(self._clock() - since, 1e-3)

    def eta_s(self) -> float | None:
        """Seconds left at the pace of this run so far, by seconds of video; None before a shard is done."""
        done, total = self._seconds
        return (self._clock() - self._cutting) * (total - done) / done if done else None

    def summary(self) -> dict[str, Any]:
        """Everything as JSON-able values."""
        spent = self._clock() - self._began
        return {
            "stage": self.stage, "sources": self.sources, **self.done, "shards_in_all": self.total_shards,
            "seconds": round(spent, 3), "frames_per_s": round(self.done["frames"] / max(spent, 1e-3), 2),
            "failed": dict(sorted(self.failures.items())), "retries": dict(sorted(self.causes.items())),
        }  # fmt: skip

    def _said(self) -> str:
        done = self.done
        if not self.total_shards:
            if not done["probed"]:
                return "nothing to do" if self._over.is_set() else "starting"
            return (
                f"{done['probed']:,}/{self.sources:,} videos looked at, {done['quarantined']:,} quarantined"
            )
        waiting = self.total_shards - done["shards"] - len(self.failures) - self.running
        parts = [f"{done['shards']}/{self.total_shards} shards"]
        parts += [f"{done[name]:,} {name}" for name in ("videos", "clips", "frames")]
        parts += [f"{self.rate():,.0f} frames/s", f"{done['quarantined']:,} quarantined"]
        parts.append(f"{max(0, waiting):,} queued")
        eta = self.eta_s()
        if eta:
            parts.append(f"ETA {duration(eta)}")
        return ", ".join(parts)

    def _keep_ticking(self) -> None:
        while not self._over.wait(1.0):
            self.tick()
