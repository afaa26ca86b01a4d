"""The evaluation's result: tables with their control rows and the gates they are held to, as text, JSON, markdown."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Gate(BaseModel):
    """One requirement and whether it is met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="what is required of what")
    value: str = Field(description="what was measured")
    met: bool | None = Field(description="None where it could not be measured")

    @property
    def mark(self) -> str:
        return {True: "met", False: "NOT met", None: "not available"}[self.met]


class Table(BaseModel):
    """Rows of cells under named columns; the first cell of a row is its name."""

    model_config = ConfigDict(extra="forbid")

    title: str
    columns: list[str]
    rows: list[list[str]] = Field(default_factory=list)
    note: str = Field("", description="how it was measured")
    gates: list[Gate] = Field(default_factory=list)

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
        from rich.console import Console
        from rich.table import Table as RichTable

        console = console or Console()
        for table in self.tables:
            shown = RichTable(
                title=table.title, title_justify="left", caption=table.note, caption_justify="left"
            )
            for column in table.columns:
                shown.add_column(column, overflow="fold")
            for row in table.rows:
                shown.add_row(*row)
            console.print(shown)
            for gate in table.gates:
                colour = {True: "green", False: "red", None: "yellow"}[gate.met]
                console.print(
                    f"  {gate.name}: {gate.value}: [{colour}]{gate.mark}[/{colour}]", highlight=False
                )


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return "-" if cell != cell else f"{cell:.2f}"
    return str(cell)
