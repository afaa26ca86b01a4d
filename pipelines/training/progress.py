"""How far a training is: a live bar on a terminal, one line a minute in a log, JSON at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from ifmdm_core.training.fit import Progress
from pipelines.run.display import INTERVAL_S, Display, duration

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
        self.last = {}
        self._display = Display(title, quiet, out=out, live=live, now=now)
        self._clock = clock
        self._spoke: float | None = None

    last: dict[str, Any]
    """What was told last: step, steps, fraction, steps_per_s, waiting, values."""

    def __enter__(self) -> TrainingProgress:
        self._display.open("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()
        if self.last:
            self._display.write(self._said())

    def call(self, title: str) -> None:
        """The run has its name."""
        self._display.title = title

    def say(self, what: str) -> None:
        """What goes on while there is no step to tell of: "starting Ray"."""
        if not self._display.draw(what):
            self._display.write(what)

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
        if self._display.draw(self._said(), told["fraction"], 1.0):
            return
        if self._spoke is None or self._clock() - self._spoke >= INTERVAL_S:
            self._spoke = self._clock()
            self._display.write(self._said())

    def _said(self) -> str:
        told = self.last
        names = sorted(told["values"], key=lambda name: (name != "loss", name))[:SHOWN]
        values = " ".join(f"{name} {told['values'][name]:.4g}" for name in names)
        rate = told["steps_per_s"]
        left = ""
        if rate and 0 < told["fraction"] < 1:
            seconds = told["step"] / told["fraction"] * (1 - told["fraction"]) / rate
            left = f", {duration(seconds)} left"
        return (
            f"step {told['step']:,} ({100 * told['fraction']:.0f} %), {values}, {rate:.3g} steps/s, "
            f"{100 * told['waiting']:.0f} % waiting for data{left}"
        )
