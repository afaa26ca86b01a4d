"""A progress bar of frames for people; nothing at all in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnFrames = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""


@contextmanager
def frame_progress(title: str, quiet: bool = False) -> Iterator[OnFrames | None]:
    """Yields a callback that draws frames, fps and time left on a terminal's stderr, or None without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TextColumn("{task.fields[fps]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, fps="")

        def show(done: int, total: int) -> None:
            speed = bar.tasks[task].speed  # over the last seconds
            bar.update(task, completed=done, total=total, fps=f"{speed:.1f} fps" if speed else "")

        yield show
