"""<manifest>.rejected.csv: rows that were refused, for people to mend."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ifmdm_core.errors import IfmdmError
from jobs.manifest.rows import Row

COLUMNS = ("line", "row", "field", "value", "reason", "fix")


@dataclass(frozen=True)
class Reject:
    """One refused row."""

    line: int
    row: int
    field: str
    """Of the job; empty where the row as a whole is at fault."""
    value: str
    """What stands there, as far as the row has it."""
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" + (f"; {self.fix}" if self.fix else "")

    @classmethod
    def of(cls, row: Row, error: IfmdmError) -> Reject:
        return cls(row.line, row.number, error.field, _value(row.values, error.field), error.what, error.fix)


class RejectFile:
    """The file, made with its first row; one of an earlier submit is removed.

    Args:
        path: None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None
        self._writer: Any = None
        if path is not None:
            path.unlink(missing_ok=True)

    def __enter__(self) -> RejectFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """One more."""
        self.count += 1
        if self.path is None:
            return
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(COLUMNS)
        self._writer.writerow([harmless(str(getattr(reject, name))) for name in COLUMNS])
        self._file.flush()


def rejects_beside(manifest: Path) -> Path:
    """Where the refused rows of a manifest are told."""
    return manifest.with_name(f"{manifest.name}.rejected.csv")


def _value(values: Mapping[str, Any], field: str) -> str:
    if field in values:
        return str(values[field])[:200]
    at: Any = values
    for part in field.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return "" if at is None else str(at)[:200]


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: what stands there came from somebody else's table."""
    formula = cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not cell[1:].replace(".", "", 1).isdigit()
    return f"'{cell}" if formula else cell
