"""What there is to cut: the videos of a folder, of an S3 prefix, or of a CSV or Parquet list.

A folder's files are all tried, whatever they are called, except hidden ones and side files such as .csv or .txt:
content decides what is a video. Each is named relative to SOURCE, so a folder and its copy on S3 give the same names.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import Uri, check_key
from pipelines.clips.names import escape_name, unescape_name
from pipelines.clips.source_item import SourceFault, SourceItem, SourceList, bucket_store, reading
from pipelines.clips.source_table import list_table

__all__ = [
    "SourceFault", "SourceItem", "SourceList", "escape_name", "list_sources", "open_source", "unescape_name",
]  # fmt: skip

SIDE_FILES = {
    ".arrow", ".ass", ".csv", ".docx", ".htm", ".html", ".ini", ".json", ".jsonl", ".lock", ".log",
    ".md", ".md5", ".npy", ".npz", ".parquet", ".pdf", ".pkl", ".py", ".rst", ".sha256", ".srt", ".sub",
    ".toml", ".tsv", ".txt", ".vtt", ".xlsx", ".xml", ".yaml", ".yml",
}  # fmt: skip
"""Files beside videos that are passed over in a folder (a list may still name them)."""
LISTS = (".csv", ".parquet")


def list_sources(source: str, s3: S3Config | None = None, limit: int | None = None) -> SourceList:
    """The videos of a folder, an `s3://` prefix, or a .csv or .parquet list on either.

    Args:
        limit: only so many items, the first by name.

    Raises:
        NotFound: no such folder, list, bucket or prefix.
        Forbidden: it may not be read.
        BadInput: nothing in it that could be a video; a list without a uri column.
    """
    root = Uri.parse(source)
    if root.suffix in LISTS:
        found = list_table(root, s3, limit)
    elif root.scheme == "s3":
        found = _list_prefix(root, s3)
    else:
        found = _list_folder(source, root.path)
    if not found.items and not found.faults:
        raise BadInput(
            f"{source!r} holds no video: no file that is not hidden and no side file (such as .csv, .json, .txt)",
            fix="give a folder or s3:// prefix of videos, or a .csv or .parquet list of them",
        )
    items = sorted(found.items, key=lambda item: (item.source, item.start or 0.0, item.end or 0.0))
    return SourceList(items[:limit], sorted(found.faults))


@contextlib.contextmanager
def open_source(item: SourceItem, s3: S3Config | None, folder: Path) -> Iterator[Path]:
    """A local path to read: the file itself, or a download into `folder`, removed afterwards.

    Raises:
        NotFound, Forbidden, Unavailable, DiskFull: it cannot be had, which says nothing about its content.
    """
    raw = unescape_name(item.uri)
    if not raw.startswith(b"s3://"):
        path = Path(os.fsdecode(raw))
        with reading(str(item.source)), path.open("rb"):
            pass
        yield path
        return
    uri = Uri.parse(raw.decode())
    # The name stays readable in messages; a part of it is enough to be unique.
    shown = re.sub(r"[^A-Za-z0-9._-]", "_", uri.name)[-60:]
    path = folder / f"{hashlib.sha256(raw).hexdigest()[:12]}-{os.getpid()}-{shown}"
    try:
        bucket_store(uri.bucket, s3).fetch(uri.path, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def is_source_name(name: str) -> bool:
    """Whether a folder's file of this relative name is tried: not hidden anywhere, not a side file."""
    parts = name.split("/")
    return (
        not any(part.startswith(".") for part in parts) and Path(parts[-1]).suffix.lower() not in SIDE_FILES
    )


def _list_folder(source: str, folder: str) -> SourceList:
    root = os.fsencode(folder)
    if not os.path.exists(root):
        raise NotFound(f"no folder and no list at {source!r}", fix="check the path")
    if not os.path.isdir(root):
        raise BadInput(f"{source!r} is one file", fix="give its folder, or a .csv or .parquet list of videos")
    items, faults = [], []
    for path in _walk(os.path.abspath(root)):
        name = escape_name(os.path.relpath(path, root))
        if not is_source_name(name):
            continue
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                with reading(name):
                    raise
            faults.append(SourceFault(name, "missing", "a link to nothing, or removed while listing"))
            continue
        if not stat.S_ISREG(status.st_mode):
            faults.append(SourceFault(name, "not a file", "a device, pipe or socket"))
            continue
        items.append(
            SourceItem(source=name, uri=escape_name(path), size=status.st_size, stamp=str(status.st_mtime_ns))
        )
    return SourceList(items, faults)


def _walk(root: bytes) -> Iterator[bytes]:
    """All files under `root`; links to folders are followed, each folder once."""

    def refuse(error: OSError) -> None:
        with reading(escape_name(error.filename)):
            raise error

    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (os.path.join(folder, name) for name in names)


def _list_prefix(root: Uri, s3: S3Config | None) -> SourceList:
    items, faults = [], []
    store = open_storage(root, s3)
    empty = True
    for entry in store.list():
        empty = False
        name = escape_name(entry.key)
        if entry.key.endswith("/") or not is_source_name(name):
            continue
        try:
            uri = root.join(entry.key)
            check_key(uri.path)
        except BadInput as error:
            faults.append(SourceFault(name, "unreadable name", str(error)))
            continue
        items.append(SourceItem(source=name, uri=escape_name(str(uri)), size=entry.size, stamp=entry.etag))
    if empty:
        raise NotFound(f"nothing at {str(root)!r}", fix="check the prefix")
    return SourceList(items, faults)
