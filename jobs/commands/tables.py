"""Tables for people: fitted to a terminal, whole where the output goes on into another program."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jobs.commands.times import span
from jobs.heartbeat import Beat
from jobs.listing import Job, progress_of, remaining_s
from jobs.timeline import clock_time

if TYPE_CHECKING:
    from rich.table import Table

COLOURS = {
    "published": "green", "running": "cyan", "done": "cyan", "failed": "red", "dead": "red", "expired": "red",
    "cancelled": "dim", "suspended": "yellow",
}  # fmt: skip
_SHORT = 12
"""Digits of an id on a terminal; they stand for it."""


def plain(text: object) -> str:
    """Text without what steers a terminal: names and faults may come from anybody."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints it; nothing but the heading where there are no rows."""
    lines = [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(heads, lines))
        return
    widths = [max(map(len, column)) for column in zip(heads, *lines)]
    for line in [list(heads), *lines]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip())


def rich_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """As a terminal shows it: states coloured, ids cut to the digits that stand for them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(
            head, overflow="fold" if head in ("output", "note") else "ellipsis", no_wrap=head == "id"
        )
    for row in rows:
        table.add_row(
            *(
                Text(
                    cell[:_SHORT] if head == "id" else cell,
                    style=COLOURS.get(cell, "") if head == "state" else "",
                )
                for head, cell in zip(heads, row)
            )
        )
    return table


def job_row(job: Job, now: float, alive: dict[str, Beat]) -> dict[str, str]:
    """What tables show of a job, by column."""
    values = job.summary()
    return {
        "id": values["id"],
        "tenant": values["tenant"],
        "state": values["state"],
        "for": span(max(0.0, now - values["since"])),
        "output": plain(values["output"]),
        "labels": plain(",".join(f"{name}={value}" for name, value in sorted(values["labels"].items()))),
        "note": plain(note(job, now, alive)),
    }


def note(job: Job, now: float, alive: dict[str, Beat]) -> str:
    """What is worth saying of a job beside its state."""
    state, stopping = job.view.state, job.view.wished("stop") and not job.view.state.resting
    if stopping:
        return "asked to stop"
    if state.state == "running":
        progress = progress_of(job.view, alive)
        if progress is None or not progress.total:
            return "" if state.worker in alive else "its worker is silent"
        left = remaining_s(job.view, progress, now)
        rest = "" if left is None else f", {span(left)} left"
        return f"{progress.frames} of {progress.total} frames{rest}"
    if state.state == "queued" and state.not_before > now:
        fault = f" after {state.fault.kind}: {state.fault.what}" if state.fault else ""
        return f"not before {clock_time(state.not_before)}{fault}"
    if state.fault is not None and state.state not in ("published", "done"):
        return f"{state.fault.kind}: {state.fault.what}"
    return f"priority {state.priority}" if state.state == "queued" and state.priority else ""
