"""How far a training is: a live bar on a terminal, one line a minute in a log, JSON at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from ifmdm_core.training.fit import Progress

INTERVAL_S = 60.0
"""Between two lines of a log."""
SHOWN = 4
"""Figures in a line; `loss` is the first."""


class TrainingProgress:
    """Shown while the `with` block runs.

    Args:
        title: what runs.
        quiet: show nothing.
        out: where to write; standard error by default.
        live: a bar instead of lines; by default if `out` is a terminal.
        clock: seconds, monotonic.
        now: the time of day of a line.
    """

    def __init__(
        self,
        title: str,
        quiet: bool = False,
        *,
        out: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.title, self.last = title, {}
        self._out = out or sys.stderr
        self._quiet = quiet
        self._live = not quiet and (self._out.isatty() if live is None else live)
        self._clock, self._now = clock, now
        self._spoke: float | None = None
        self._bar: Any = None

    last: dict[str, Any]
    """What was told last: step, steps, fraction, steps_per_s, waiting, values."""

    def __enter__(self) -> TrainingProgress:
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
            self._bar.add_task(self.title, total=1.0, said="starting")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self.last and not self._quiet:
            self._write()

    def show(self, progress: Progress) -> None:
        """From the process that trains."""
        self.tell(
            {
                "step": progress.state.step,
                "fraction": progress.state.fraction,
                "steps_per_s": progress.steps_per_s,
                "waiting": progress.waiting,
                "values": progress.values,
            }
        )

    def tell(self, told: dict[str, Any] | None) -> None:
        """From the run's storage; None while nothing is known."""
        if told is None:
            return
        self.last = told
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=told["fraction"], said=self._said())
        elif not self._quiet and (self._spoke is None or self._clock() - self._spoke >= INTERVAL_S):
            self._spoke = self._clock()
            self._write()

    def _said(self) -> str:
        told = self.last
        names = sorted(told["values"], key=lambda name: (name != "loss", name))[:SHOWN]
        values = " ".join(f"{name} {told['values'][name]:.4g}" for name in names)
        rate = told["steps_per_s"]
        left = ""
        if rate and 0 < told["fraction"] < 1:
            seconds = told["step"] / told["fraction"] * (1 - told["fraction"]) / rate
            left = f", {_duration(seconds)} left"
        return (
            f"step {told['step']:,} ({100 * told['fraction']:.0f} %), {values}, {rate:.3g} steps/s, "
            f"{100 * told['waiting']:.0f} % waiting for data{left}"
        )

    def _write(self) -> None:
        print(f"{self._now():%H:%M:%S} {self.title} {self._said()}", file=self._out, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
