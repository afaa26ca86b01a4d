"""<manifest>.submitted.jsonl: which row became which job, written as it happens, so that a submit can go on.

The first line says which store and tenant it is about; then a line per row and try. The last line of a row holds.
"""

from __future__ import annotations

import array
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pydantic import ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.uri import Uri
from jobs.entries import Fault
from jobs.spec import RenderJob

VERSION = 1


@dataclass(frozen=True)
class JournalHead:
    """What a journal is about."""

    root: str
    tenant: str
    manifest: str
    """Name of its file."""

    def require_like(self, other: JournalHead, path: Path) -> None:
        """Raises Conflict where `other` is about another store or tenant than this head of the journal at `path`."""
        if (self.root, self.tenant) != (other.root, other.tenant):
            raise Conflict(
                f"{str(path)!r} is about tenant {self.tenant!r} of {self.root}, not {other.tenant!r} of {other.root}",
                fix="name that store and tenant, or another --journal",
            )


@dataclass(frozen=True)
class JournalRow:
    """What became of one row."""

    row: int
    """From 1."""
    line: int
    """Of the manifest."""
    id: str | None
    """Of its job; None where it was refused."""
    output: str
    error: Fault | None
    """Why it was refused."""


def journal_beside(manifest: Path) -> Path:
    """Where the journal of a manifest is."""
    return manifest.with_name(f"{manifest.name}.submitted.jsonl")


def head_of(root: Uri, tenant: str, manifest: str = "") -> JournalHead:
    """The head of a journal about the store at `root`, however that was named."""
    name = str(Path(root.path).absolute()) if root.scheme == "file" else str(root).rstrip("/")
    return JournalHead(name, tenant, manifest)


def row_digest(job: RenderJob) -> int:
    """64 bits that tell what a row asks for; never 0."""
    text = json.dumps(job.given(), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") or 1


class Journal:
    """A journal that is written. Eight bytes of memory a row. For one thread.

    Raises Conflict where the file is about another store or tenant, or is none of ours.
    """

    def __init__(self, path: Path, head: JournalHead) -> None:
        self.path = path
        self._entered = array.array("Q")
        if path.exists() and path.stat().st_size:
            found = read_head(path)
            found.require_like(head, path)
            for values, _ in _lines(path):
                self._note(values)
        self._file: IO[str] = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._write({"version": VERSION, **asdict(head)})
        elif not _ends_whole(path):
            self._file.write("\n")  # a line that a crash cut short stays alone

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def has(self, row: int, digest: int) -> bool:
        """Whether that row, asking for just that, became a job."""
        return digest != 0 and row < len(self._entered) and self._entered[row] == digest

    def add(self, found: JournalRow, digest: int) -> None:
        """One more row is done; `digest` as `row_digest` gives it, 0 for a row that is no job."""
        error = found.error.model_dump(mode="json") if found.error is not None else None
        values = {"row": found.row, "line": found.line, "digest": f"{digest:016x}", "id": found.id}
        values |= {"output": found.output, "error": error}
        self._write(values)
        self._note(values)

    def _note(self, values: dict[str, Any]) -> None:
        row = values["row"]
        if row >= len(self._entered):
            self._entered.extend([0] * (row + 1 - len(self._entered)))
        self._entered[row] = int(values["digest"], 16) if values["id"] is not None else 0

    def _write(self, values: dict[str, Any]) -> None:
        self._file.write(json.dumps(values, ensure_ascii=False) + "\n")
        self._file.flush()


def read_head(path: Path) -> JournalHead:
    """What a journal is about. Raises NotFound, BadInput for another file, Conflict for another version."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.readline())
        version = values.pop("version")
        if version != VERSION:
            raise Conflict(f"{str(path)!r} has version {version}, this ifmdm knows {VERSION}")
        return JournalHead(**values)
    except FileNotFoundError:
        raise NotFound(
            f"there is no journal {str(path)!r}", fix="ifmdm jobs submit --manifest writes it"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(f"{str(path)!r} is no journal of a manifest", fix="name another file") from None


def read_journal(path: Path) -> Iterator[JournalRow]:
    """What became of each row, in the order of rows; eight bytes of memory a row. Raises as `read_head`."""
    read_head(path)
    places = array.array("Q")
    for values, place in _lines(path):
        row = values["row"]
        if row >= len(places):
            places.extend([0] * (row + 1 - len(places)))
        places[row] = place
    with path.open("rb") as file:
        for place in places:
            if place:
                file.seek(place)
                yield _row(json.loads(file.readline()), path)


def _row(values: dict[str, Any], path: Path) -> JournalRow:
    try:
        error = Fault.model_validate(values["error"]) if values["error"] is not None else None
        return JournalRow(values["row"], values["line"], values["id"], values["output"], error)
    except (KeyError, ValidationError):
        raise BadInput(
            f"{str(path)!r}: the line of row {values['row']} is damaged", fix="remove that line"
        ) from None


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """What a journal says of rows, and where in the file; lines that were cut short are passed over."""
    with path.open("rb") as file:
        file.readline()
        place = file.tell()
        for line in file:
            try:
                values = json.loads(line)
                usable = isinstance(values["row"], int) and values["row"] > 0
                int(values["digest"], 16)
                usable = usable and (values["id"] is None or isinstance(values["id"], str))
            except (ValueError, TypeError, KeyError):
                usable = False
            if usable:
                yield values, place
            place += len(line)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
