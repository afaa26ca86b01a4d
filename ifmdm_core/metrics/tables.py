"""The evaluation's result: tables with their control rows and the gates they are held to, as text, JSON, markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PLAIN_WIDTH = 140
"""Characters of a line where nobody's terminal says otherwise."""
MANY = 6

Better = Literal["higher", "lower", "near 1"]


class Gate(BaseModel):
    """One requirement and whether it is met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="what is required of what")
    value: str = Field(description="what was measured")
    met: bool | None = Field(description="None where it could not be measured")

    @property
    def mark(self) -> str:
        return {True: "met", False: "NOT met", None: "not available"}[self.met]


class Figure(BaseModel):
    """One number that bundles are compared by, with its 95 % interval over clips."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float = Field(description="the figure, in the unit that its name ends with, if any")
    low: float = Field(description="lower end of the 95 % bootstrap interval")
    high: float = Field(description="upper end of the 95 % bootstrap interval")
    better: Better = Field("higher", description="which way is better")
    count: int = Field(description="clips (or borders, for seams) behind it")

    @classmethod
    def of(cls, interval: Sequence[float], count: int, better: Better = "higher") -> Figure | None:
        """From (value, low, high); None where one of them is not finite."""
        value, low, high = (float(part) for part in interval)
        if not all(map(math.isfinite, (value, low, high))):
            return None
        return cls(value=value, low=low, high=high, better=better, count=count)

    def worse_than(self, champion: Figure) -> bool:
        """Is this figure beyond the bad end of the champion's interval?"""
        return self._loss(self.value) > max(self._loss(champion.low), self._loss(champion.high))

    def _loss(self, value: float) -> float:
        if self.better == "near 1":
            return abs(math.log(max(value, 1e-6)))
        return -value if self.better == "higher" else value

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Table(BaseModel):
    """Rows of cells under named columns; the first cell of a row is its name."""

    model_config = ConfigDict(extra="forbid")

    title: str
    columns: list[str]
    rows: list[list[str]] = Field(default_factory=list)
    note: str = Field("", description="how it was measured")
    gates: list[Gate] = Field(default_factory=list)
    figures: dict[str, Figure] = Field(
        default_factory=dict, description="numbers of this table to compare by"
    )

    def add(self, name: str, *cells: object) -> None:
        """Append a row; numbers get two digits, None reads as a dash."""
        assert len(cells) + 1 == len(self.columns), f"{len(cells) + 1} cells for {len(self.columns)} columns"
        self.rows.append([name, *(_text(cell) for cell in cells)])

    def gate(self, name: str, value: object, met: bool | None) -> None:
        """Append a requirement."""
        self.gates.append(Gate(name=name, value=_text(value), met=met))

    def markdown(self) -> str:
        """The table as markdown, with its note and gates."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        if self.rows:
            lines += ["| " + " | ".join(self.columns) + " |", "| --- " * len(self.columns) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in self.rows] + [""]
        lines += [f"- {gate.name}: {gate.value}: **{gate.mark}**" for gate in self.gates]
        return "\n".join(lines).rstrip() + "\n"


class EvaluationReport(BaseModel):
    """All tables of one evaluation of one bundle."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(description="name of the bundle")
    digest: str = Field(description="sha256 of its record")
    clips: dict[str, int] = Field(description="clips measured, by kind")
    seconds: float = Field(0.0, description="how long the evaluation took")
    tables: list[Table] = Field(default_factory=list)

    def markdown(self) -> str:
        """The whole report for docs."""
        counts = ", ".join(f"{count} {kind}" for kind, count in self.clips.items())
        head = f"Bundle `{self.bundle}` ({self.digest[:12]}), clips: {counts}; {self.seconds:.0f} s.\n"
        return head + "\n" + "\n".join(table.markdown() for table in self.tables)

    def print(self, console: Any = None) -> None:
        """Show the tables on a terminal, or on the given rich console."""
        show_tables(self.tables, console)


def show_tables(tables: Sequence[Table], console: Any = None) -> None:
    """Tables and their gates on a terminal, or on the given rich console."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PLAIN_WIDTH)  # a file has no edge to fold at
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left", caption=table.note, caption_justify="left")
        for column in table.columns:
            shown.add_column(column, overflow="fold")
        for row in table.rows:
            # Many columns fit only with each interval under its figure.
            shown.add_row(*(cell.replace(" [", "\n[") for cell in row) if len(row) > MANY else row)
        console.print(shown)
        for gate in table.gates:
            colour = {True: "green", False: "red", None: "yellow"}[gate.met]
            console.print(f"  {gate.name}: {gate.value}: [{colour}]{gate.mark}[/{colour}]", highlight=False)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return "-" if cell != cell else f"{cell:.2f}"
    return str(cell)
