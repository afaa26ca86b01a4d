"""Where a run says how far it is: a live bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, TextIO

INTERVAL_S = 60.0
"""Between two lines of a log."""


class Display:
    """Nothing is shown before `open`.

    Args:
        title: what runs.
        quiet: show nothing at all.
        out: where to write; standard error by default.
        live: a bar instead of lines; by default if `out` is a terminal.
        now: the time of day of a line.
    """

    def __init__(
        self,
        title: str,
        quiet: bool = False,
        *,
        out: TextIO | None = None,
        live: bool | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.title = title
        self._out = out or sys.stderr
        self._quiet, self._now = quiet, now
        self._live = not quiet and (self._out.isatty() if live is None else live)
        self._bar: Any = None

    def open(self, said: str) -> None:
        """Draw the bar, if there is to be one."""
        if not self._live:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[said]}"),
        )
        self._bar = Progress(*columns, console=Console(file=self._out), transient=True)
        self._bar.add_task(self.title, total=None, said=said)
        self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def draw(self, said: str, completed: float = 0.0, total: float | None = None) -> bool:
        """Move the bar to `completed` of `total` (None: not known); False where there is no bar."""
        if self._bar is None:
            return False
        self._bar.update(
            self._bar.task_ids[0], description=self.title, total=total, completed=completed, said=said
        )
        return True

    def write(self, said: str) -> None:
        """A line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(self.line(said), markup=False, highlight=False)
        elif not self._quiet:
            print(self.line(said), file=self._out, flush=True)

    def line(self, said: str) -> str:
        """`12:00:31 clips 12/32 shards, ...`"""
        return f"{self._now():%H:%M:%S} {self.title} {said}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
