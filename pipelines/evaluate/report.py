"""What `ifmdm evaluate` leaves behind: the figures that promotion gates read, and the tables that people read.

The file is JSON. Two reports may be compared figure by figure only when their `held_out` agrees: the same clips,
measured with the same settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.metrics.tables import Figure, Table, show_tables

__all__ = ["FORMAT", "EvaluationReport", "Figure", "HeldOut", "RowFigures", "read_report"]

FORMAT = 1


class HeldOut(BaseModel):
    """What was measured on, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(description="dataset or folder of videos")
    dataset: str = Field(description="digest of the clips measured: their names and contents")
    settings: str = Field(description="digest of everything that changes figures but the bundle")
    clips: dict[str, int] = Field(description="clips measured, by kind")

    def require_same(self, other: HeldOut) -> None:
        """Raises Conflict, with both values, when the two reports cannot be compared."""
        for what in ("dataset", "settings"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                raise Conflict(
                    f"the evaluations differ in held_out.{what}: {mine} and {theirs}",
                    fix="evaluate both bundles on the same held-out clips with the same options",
                )


class RowFigures(BaseModel):
    """One row of the paper's tables as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: int = Field(ge=1, le=3, description="of the paper")
    row: str
    figures: dict[str, Figure] = Field(description="by column; a column without a figure is absent")


class EvaluationReport(BaseModel):
    """One evaluation of one bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, description="version of this layout")
    bundle: str = Field(description="name of the bundle")
    bundle_digest: str = Field(description="sha256 of its bundle.json")
    created: str = Field(description="UTC time, ISO 8601")
    seconds: float = Field(ge=0, description="how long the evaluation took; less when it was resumed")
    held_out: HeldOut
    settings: dict[str, Any] = Field(description="what held_out.settings is the digest of")
    figures: dict[str, Figure] = Field(
        description="of the bundle: S, lip_r, reconstruction_gain_db, seam_ratio and more; for gates"
    )
    unavailable: dict[str, str] = Field(
        default_factory=dict, description="figures that could not be measured, and why"
    )
    rows: list[RowFigures] = Field(default_factory=list, description="the paper's tables as numbers")
    tables: list[Table] = Field(default_factory=list, description="all tables as text")
    failed: dict[str, str] = Field(default_factory=dict, description="clips or rows left out, and why")

    def markdown(self) -> str:
        """The whole report for docs."""
        counts = ", ".join(f"{count} {kind}" for kind, count in self.held_out.clips.items())
        head = f"Bundle `{self.bundle}` ({self.bundle_digest[:12]}), clips: {counts}; {self.seconds:.0f} s.\n"
        return head + "\n" + "\n".join(table.markdown() for table in self.tables)

    def print(self, console: Any = None) -> None:
        """Show the tables on a terminal, or on the given rich console."""
        show_tables(self.tables, console)

    def save(self, path: str | Path) -> None:
        """Write it as JSON; `read_report` reads it."""
        Path(path).write_text(self.model_dump_json(indent=1) + "\n")

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {figure}" for name, figure in self.figures.items())
        return f"EvaluationReport({self.bundle} {self.bundle_digest[:12]}: {figures or 'no figures'})"


def read_report(source: str | Path | bytes) -> EvaluationReport:
    """A report from its file, or from the bytes of one.

    Raises:
        NotFound: no such file. BadInput: not an evaluation report. Unsupported: of a later version.
    """
    if isinstance(source, bytes):
        data, name = source, "evaluation report"
    else:
        name = str(source)
        try:
            data = Path(source).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(
                f"{name}: no such evaluation report", fix="make one: ifmdm evaluate ... --report FILE"
            ) from None
    try:
        report = EvaluationReport.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(
            f"{name} is not an evaluation report: {where}: {first['msg']}", fix="make it with ifmdm evaluate"
        ) from None
    if report.format != FORMAT:
        raise Unsupported(
            f"{name} has format {report.format}, this version reads {FORMAT}",
            fix="update ifmdm, or evaluate again",
        )
    return report
