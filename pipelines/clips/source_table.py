"""Lists of sources: CSV or Parquet with a `uri` column and optional parts, identities, labels and rights.

| column | what |
| --- | --- |
| uri, or file | path or s3:// URI; relative to the list's own folder |
| start, end | seconds of the part that may be used |
| identity, or speaker | who is seen |
| labels | words joined by `;` (in Parquet also a list) |
| rights, or class | what may be done with it |
| consent, split | free text |
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import posixpath
from collections.abc import Iterator
from typing import Any

from ifmdm_core.errors import BadInput, IfmdmError, NotFound
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import Uri
from pipelines.clips.names import escape_name
from pipelines.clips.source_item import SourceFault, SourceItem, SourceList, stat_sources

COLUMNS = {
    "uri": "uri", "file": "uri", "start": "start", "end": "end", "identity": "identity", "speaker": "identity",
    "labels": "labels", "rights": "rights", "class": "rights", "consent": "consent", "split": "split",
}  # fmt: skip
"""Names of columns that are understood, and the field each one fills; of two for one field the first is used."""

_log = logging.getLogger(__name__)


def list_table(root: Uri, s3: S3Config | None, limit: int | None) -> SourceList:
    """The sources of a list; a bad row is a fault with its line (CSV) or row (Parquet) number, the others go on.

    Raises:
        NotFound: no such list.
        BadInput: it cannot be read, or has no uri column.
    """
    list_uri = root if root.scheme == "s3" else Uri("file", "", os.path.abspath(root.path))
    folder, _, name = list_uri.path.rpartition("/")
    if root.scheme == "file" and not os.path.exists(root.path):
        raise NotFound(f"no list at {root.path!r}", fix="check the path")
    data = open_storage(Uri(root.scheme, root.bucket, folder or "/"), s3).get(name)
    rows = list(_parquet_rows(data, name) if root.suffix == ".parquet" else _csv_rows(data, name))

    items: list[SourceItem] = []
    faults: list[SourceFault] = []
    seen: set[tuple[str, float | None, float | None]] = set()
    for place, row in rows:
        try:
            item = _item(row, Uri(root.scheme, root.bucket, folder))
            part = (item.uri, item.start, item.end)
            if part in seen:
                raise ValueError(f"{item.source!r} with this start and end is listed twice")
        except (ValueError, IfmdmError) as error:
            faults.append(SourceFault(place, "bad row", " ".join(str(error).split())))
            continue
        seen.add(part)
        items.append(item)
    items = sorted(items, key=lambda item: (item.source, item.start or 0.0, item.end or 0.0))[:limit]
    found = stat_sources((item.uri for item in items), s3)
    kept = []
    for item in items:
        status = found[item.uri]
        if isinstance(status, SourceFault):
            faults.append(status._replace(source=item.source))
        else:
            kept.append(item.model_copy(update={"size": status[0], "stamp": status[1]}))
    return SourceList(kept, faults)


def _csv_rows(data: bytes, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # Bytes that are not UTF-8 may be those of a file's name: they pass through.
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline=""))
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        fields = _understood(list(reader.fieldnames), name)
        for row in reader:
            values: dict[str, Any] = {}
            for column, field in fields.items():
                text = row.get(column) or ""
                if field and text.strip():
                    values.setdefault(field, text.strip())
            yield f"{name} line {reader.line_num}", values
    except csv.Error as error:
        raise BadInput(f"{name!r} line {reader.line_num} is not CSV: {error}") from None


def _parquet_rows(data: bytes, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{name!r} is not Parquet: {error}", fix="write it again, or as CSV") from None
    fields = _understood(table.column_names, name)
    for number, row in enumerate(table.to_pylist(), 1):
        values: dict[str, Any] = {}
        for column, field in fields.items():
            value = row[column]
            if (
                field and value is not None and value != "" and value == value
            ):  # pandas writes NaN for nothing
                values.setdefault(field, value)
        yield f"{name} row {number}", values


def _understood(columns: list[str], name: str) -> dict[str, str]:
    """Each column and the field it fills ("" for none)."""
    fields = {column: COLUMNS.get(column.lower(), "") for column in columns}
    if "uri" not in fields.values():
        raise BadInput(
            f"{name!r} has no column uri or file, but {', '.join(map(repr, columns)) or 'none'}",
            fix="name one column uri; columns are separated by commas",
        )
    ignored = [column for column, field in fields.items() if not field]
    if ignored:
        _log.warning("%s: columns %s are not used", name, ", ".join(map(repr, ignored)))
    # uri before file, identity before speaker, rights before class
    return dict(sorted(fields.items(), key=lambda pair: pair[0].lower() != pair[1]))


def _item(row: dict[str, Any], folder: Uri) -> SourceItem:
    """One row as an item without size and stamp. Raises ValueError or BadInput saying what is wrong."""
    if "uri" not in row:
        raise ValueError("uri is missing")
    source, uri = _located(str(row["uri"]), folder)
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"end {end:g} is not after start {start or 0.0:g}")
    labels = row.get("labels", ())
    words = labels.split(";") if isinstance(labels, str) else list(labels)
    texts = {name: _text(row[name]) for name in ("identity", "rights", "consent", "split") if name in row}
    return SourceItem(
        source=source, uri=uri, size=0, stamp="", start=start, end=end,
        labels=tuple(filter(None, map(_text, words))), **texts,
    )  # fmt: skip


def _text(value: Any) -> str:
    """A free-text cell in valid Unicode."""
    return str(value).strip().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _located(text: str, folder: Uri) -> tuple[str, str]:
    """Name and URI of a listed video, both escaped: relative to the list's folder where it lies inside."""
    uri = Uri.parse(text)
    if uri.scheme == folder.scheme == "file" or (uri.scheme == "file" and not uri.path.startswith("/")):
        path = posixpath.normpath(posixpath.join(folder.path or "/", uri.path))
        uri = Uri(folder.scheme, folder.bucket, path.lstrip("/") if folder.scheme == "s3" else path)
    base = folder.path.rstrip("/") + "/" if folder.path.rstrip("/") or folder.scheme == "file" else ""
    inside = (uri.scheme, uri.bucket) == (folder.scheme, folder.bucket) and uri.path.startswith(base)
    whole = escape_name(str(uri))
    name = escape_name(uri.path[len(base) :]) if inside else whole
    return name, whole


def _seconds(row: dict[str, Any], name: str) -> float | None:
    if name not in row:
        return None
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        raise ValueError(f"{name} {row[name]!r} is no number of seconds") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} {row[name]!r} is no number of seconds")
    return value
