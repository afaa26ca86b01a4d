"""Rows of a manifest as they stand in the file, one after the other; broken ones among them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, NotFound, nearest
from jobs.spec import RenderJob

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LINE_MOST = 1 << 20
"""Bytes of a line of JSON."""
_BATCH = 1024  # rows of Parquet in memory
_GROUPS = {"controls": RenderControls, "labels": None}


@dataclass(frozen=True)
class Row:
    """One row."""

    number: int
    """From 1; the heading does not count."""
    line: int
    """Of the file, where it begins; for Parquet its number."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What is not empty, by column."""
    fault: BadInput | None = None
    """Why it cannot be read."""


class Rows(Protocol):
    """An open manifest."""

    def __iter__(self) -> Iterator[Row]:
        """All rows, read as they are asked for. Raises BadInput where the file as a whole cannot be read."""
        ...

    def share(self) -> float:
        """How much of the file has been read, 0 to 1."""
        ...


def open_rows(path: Path) -> Rows:
    """The rows of a file, by its suffix. Raises BadInput, NotFound."""
    if not path.is_file():
        raise NotFound(f"there is no manifest {str(path)!r}", fix="check the path")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _Csv(path)
    if suffix in (".jsonl", ".ndjson"):
        return _JsonLines(path)
    if suffix == ".parquet":
        return _Parquet(path)
    raise BadInput(f"{str(path)!r} is no manifest", fix=f"its name must end in {', '.join(SUFFIXES)}")


def check_columns(names: list[str], where: str) -> None:
    """Raises BadInput for a column that no row could be read with."""
    for name in names:
        head, dot, rest = name.partition(".")
        if head not in RenderJob.model_fields:
            raise BadInput(f"{where}: unknown column {name!r}", fix=nearest(head, RenderJob.model_fields))
        if not dot:
            continue
        if head not in _GROUPS:
            raise BadInput(f"{where}: column {name!r}: {head} is one value", fix=f"call it {head!r}")
        inside = _GROUPS[head]
        if inside is not None and rest not in inside.model_fields:
            raise BadInput(f"{where}: unknown column {name!r}", fix=nearest(rest, inside.model_fields))
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadInput(f"{where}: column {min(twice)!r} is there twice", fix="remove one of them")


class _Text:
    """A text file and how much of it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = max(1, path.stat().st_size)
        self._raw: IO[bytes] | None = None

    def opened(self) -> IO[bytes]:
        self._raw = self.path.open("rb")
        return self._raw

    def share(self) -> float:
        return (
            min(1.0, self._raw.tell() / self._size) if self._raw is not None and not self._raw.closed else 1.0
        )


class _Csv(_Text):
    def __iter__(self) -> Iterator[Row]:
        # Bytes that are no UTF-8 are kept apart, so that only their row is lost.
        with io.TextIOWrapper(self.opened(), "utf-8-sig", errors="surrogateescape", newline="") as text:
            reader = csv.reader(text, delimiter=self._delimiter())
            try:
                columns = [name.strip() for name in next(reader)]
            except (StopIteration, csv.Error):
                raise BadInput(
                    f"{str(self.path)!r} has no heading", fix="name the columns in line 1"
                ) from None
            check_columns(columns, str(self.path))
            number, line = 0, reader.line_num + 1
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    number += 1
                    yield Row(
                        number,
                        line,
                        fault=BadInput(f"the row cannot be read: {error}", fix="check its quotes"),
                    )
                else:
                    if any(cells):
                        number += 1
                        yield _csv_row(number, line, columns, cells)
                line = reader.line_num + 1

    def _delimiter(self) -> str:
        if self.path.suffix.lower() == ".tsv":
            return "\t"
        with self.path.open("rb") as file:
            heading = file.readline(LINE_MOST)
        return next((mark for mark in ",;\t" if mark.encode() in heading), ",")


def _csv_row(number: int, line: int, columns: list[str], cells: list[str]) -> Row:
    if len(cells) > len(columns):
        fault = BadInput(
            f"the row has {len(cells)} cells for {len(columns)} columns",
            fix="put cells with commas in quotes",
        )
        return Row(number, line, fault=fault)
    values = {name: cell.strip() for name, cell in zip(columns, cells) if cell.strip()}
    for name, value in values.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            fault = BadInput(f"{name} is no UTF-8 text", fix="save the file as UTF-8")
            fault.field = name
            return Row(number, line, fault=fault)
    return Row(number, line, values)


class _JsonLines(_Text):
    def __iter__(self) -> Iterator[Row]:
        with self.opened() as file:
            number = line = 0
            while text := file.readline(LINE_MOST):
                line += 1
                if len(text) == LINE_MOST and not text.endswith(b"\n"):
                    while (rest := file.readline(LINE_MOST)) and not rest.endswith(b"\n"):
                        pass
                elif not text.strip():
                    continue
                number += 1
                yield _json_row(number, line, text)


def _json_row(number: int, line: int, text: bytes) -> Row:
    if len(text) >= LINE_MOST:
        return Row(number, line, fault=BadInput("the row is longer than 1 MiB", fix="one job is one line"))
    try:
        values = json.loads(text.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        return Row(number, line, fault=BadInput(f"the row is not JSON: {error}", fix="one job is one line"))
    if not isinstance(values, dict):
        fault = BadInput(
            f"the row is a {type(values).__name__}", fix="it must be an object with a job's fields"
        )
        return Row(number, line, fault=fault)
    return Row(number, line, {name: value for name, value in values.items() if value is not None})


class _Parquet:
    def __init__(self, path: Path) -> None:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise BadInput(
                f"{str(path)!r}: reading Parquet needs the package pyarrow",
                fix="pip install pyarrow, or use CSV",
            ) from None
        self._read = 0
        try:
            self._file = ParquetFile(path)
        except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
            raise BadInput(f"{str(path)!r} is no Parquet file: {error}") from None
        check_columns(self._file.schema_arrow.names, str(path))
        self._rows = max(1, self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[Row]:
        self._read = 0
        for batch in self._file.iter_batches(_BATCH):
            for values in batch.to_pylist():
                self._read += 1
                given = {name: value for name, value in values.items() if value is not None}
                yield Row(self._read, self._read, given)

    def share(self) -> float:
        return self._read / self._rows
