"""How far a start or an end is: a line of each service that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_NOTE = 70
"""Characters of a note."""


class Teller:
    """Told by threads what services do; tells people. Use `telling`."""

    def __init__(self, console: Console, bars: Progress | None, width: int) -> None:
        self._console, self._bars, self._width = console, bars, width
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}

    def begin(self, name: str, note: str) -> None:
        """Something is begun."""
        self._began[name] = time.monotonic()
        if self._bars is not None:
            self._tasks[name] = self._bars.add_task("", total=1, name=name.ljust(self._width), note="")
            self.note(name, note)
        else:
            self._console.print(f"{name:<{self._width}}  {note}", markup=False, highlight=False)

    def note(self, name: str, note: str) -> None:
        """What it does now; only terminals show it."""
        if self._bars is not None:
            self._bars.update(self._tasks[name], note=escape(note[:_NOTE]))

    def done(self, name: str, note: str) -> None:
        """It is done."""
        seconds = time.monotonic() - self._began[name]
        if self._bars is not None:
            self._bars.update(self._tasks[name], completed=1, note=f"[green]{escape(note)}[/green]")
        else:
            line = f"{name:<{self._width}}  {note} ({seconds:.1f} s)"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def failed(self, name: str, note: str) -> None:
        """It is not done, and will not be."""
        if self._bars is not None:
            self._bars.update(self._tasks[name], completed=1, note=f"[red]{escape(note[:_NOTE])}[/red]")


@contextlib.contextmanager
def telling(names: list[str]) -> Iterator[Teller]:
    """One for the duration of the block, on stderr."""
    console = Console(stderr=True)
    width = max(map(len, names), default=0)
    if not console.is_terminal:
        yield Teller(console, None, width)
        return
    columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.fields[name]}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        yield Teller(console, bars, width)
