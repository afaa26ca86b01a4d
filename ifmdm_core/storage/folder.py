"""A store in a local folder."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import heapq
import itertools
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ifmdm_core.errors import BadInput, Forbidden, NotFound
from ifmdm_core.storage.faults import disk_errors
from ifmdm_core.storage.protocol import Item, check_folder, check_prefix, check_seconds
from ifmdm_core.storage.temporary import CHUNK, TEMP_PREFIX, sync, temp_beside
from ifmdm_core.uri import Uri, check_key

_TEMP = TEMP_PREFIX.encode()
PLACED_MODE = 0o666
"""Of files that are given to people, less their umask; what is ours stays ours."""
_TICK_NS = 1_000_000_000  # more than any clock's tick


class FolderStorage:
    """A store in a local folder; the folder is made on the first write."""

    def __init__(self, root: Uri) -> None:
        self.root = root
        self._folder = Path(root.path).resolve()

    def get(self, key: str) -> bytes:
        with disk_errors(key):
            return self._path(key).read_bytes()

    def start(self, key: str, size: int) -> bytes:
        with disk_errors(key), self._path(key).open("rb") as file:
            return file.read(size)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with disk_errors(key), temp_beside(path) as (file, temp):
            file.write(data)
            sync(file)
            _replace(temp, path)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with disk_errors(key), temp_beside(path) as (file, temp):
            file.write(data)
            sync(file)
            return _link(temp, path)

    def fetch(self, key: str, path: Path) -> None:
        with disk_errors(key):
            source = self._path(key).open("rb")
        with source, disk_errors(str(path)), temp_beside(path) as (file, temp):
            shutil.copyfileobj(source, file, CHUNK)
            file.flush()
            os.replace(temp, path)

    def upload(self, key: str, path: Path) -> None:
        with disk_errors(str(path)):
            source = path.open("rb")
        target = self._path(key)
        with source, disk_errors(key), temp_beside(target) as (file, temp):
            shutil.copyfileobj(source, file, CHUNK)
            sync(file)
            _replace(temp, target)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def arrow_file(self, key: str) -> Any:
        import pyarrow as pa

        try:
            return pa.memory_map(str(self._path(key)))
        except FileNotFoundError:
            raise NotFound(f"{key} does not exist in {self._folder}") from None

    def info(self, key: str) -> Item | None:
        with disk_errors(key):
            return self._item(key, self._path(key))

    def age(self, key: str) -> float | None:
        with disk_errors(key):
            item = self._item(key, self._path(key))
            if item is None:
                return None
            with temp_beside(self._folder / "clock") as (file, _):
                file.write(b".")  # written, not only made: on network disks the server's clock stamps that
                file.flush()
                now = os.fstat(file.fileno()).st_mtime_ns
        return (now - int(item.etag)) / 1e9

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        check_prefix(prefix)
        start, slash, rest = prefix.rpartition("/")
        keys = self._keys(self._folder / start, start + slash, os.fsencode(rest), limit is None)
        found = (item for item in map(self._listed, keys) if item is not None)
        return itertools.islice(found, None if limit is None else max(limit, 0))

    def folders(self, prefix: str = "") -> builtins.list[str]:
        check_folder(prefix)
        folder = self._folder / prefix
        with disk_errors(str(folder)):
            names = [os.fsdecode(name[:-1]) for name in _entries(folder) if name.endswith(b"/")]
            return sorted(name for name in names if _holds_a_file(folder / name))

    def delete(self, key: str) -> None:
        with disk_errors(key), contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def delete_if(self, key: str, etag: str) -> bool:
        item = self.info(key)
        if item is not None and item.etag != etag:
            return False
        self.delete(key)
        return True

    def place(self, key: str, path: Path, sha256: str, over: str | None = None) -> bool:
        with disk_errors(str(path)):
            source = path.open("rb")
        target = self._path(key)
        with source, disk_errors(key), temp_beside(target, PLACED_MODE) as (file, temp):
            shutil.copyfileobj(source, file, CHUNK)
            sync(file)
            if over is None:
                return _link(temp, target)
            item = self._item(key, target)
            if item is None or item.etag != over:
                return False
            _replace(temp, target)
            return True

    def digest(self, key: str) -> str | None:
        with disk_errors(key):
            try:
                file = self._path(key).open("rb")
            except FileNotFoundError:
                return None
            with file:
                return hashlib.file_digest(file, "sha256").hexdigest()

    def presigned(self, key: str, seconds: int) -> str:
        check_seconds(seconds)
        return self._path(key).as_uri()

    def versioned(self) -> bool | None:
        return False

    def _keys(self, folder: Path, prefix: str, start: bytes, everything: bool) -> Iterator[str]:
        """Keys of the files below `folder`, whose own key is `prefix`, in byte order; names begin with `start`.

        A folder's name is compared with its slash, so its keys come where their bytes belong and no file of it is
        looked at before its turn. Who wants only the first keys spares sorting the others.
        """
        with disk_errors(str(folder)):
            names = [name for name in _entries(folder) if name.startswith(start)]
        for name in sorted(names) if everything else _smallest_first(names):
            key = prefix + os.fsdecode(name)
            if name.endswith(b"/"):
                yield from self._keys(folder / os.fsdecode(name), key, b"", everything)
            else:
                yield key

    def _listed(self, key: str) -> Item | None:
        with disk_errors(key):
            return self._item(key, self._folder / key)  # None: deleted while we listed

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.rpartition("/")[2].startswith(TEMP_PREFIX):
            raise BadInput(f"key {key!r} starts with {TEMP_PREFIX!r}, which is reserved")
        path = self._folder / key
        if not path.parent.resolve().is_relative_to(self._folder):
            raise Forbidden(f"key {key!r} leaves {str(self._folder)!r} by a link")
        return path

    def _item(self, key: str, path: Path) -> Item | None:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        return Item(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC), str(stat.st_mtime_ns))


def _entries(folder: Path) -> Iterator[bytes]:
    """Names of what lies in `folder`, unsorted; folders end with a slash. None: no such folder."""
    with contextlib.suppress(FileNotFoundError), os.scandir(os.fsencode(folder)) as entries:
        for entry in entries:
            if not entry.name.startswith(_TEMP):
                yield entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name


def _holds_a_file(folder: Path) -> bool:
    """Whether there is a file in `folder` or below; looks no further than the first."""
    entries = _entries(folder)
    return any(not name.endswith(b"/") or _holds_a_file(folder / os.fsdecode(name)) for name in entries)


def _smallest_first(names: list[bytes]) -> Iterator[bytes]:
    """All of them in order, each found when it is asked for."""
    heapq.heapify(names)
    while names:
        yield heapq.heappop(names)


def _link(temp: str, path: Path) -> bool:
    """Give the finished file its name if nobody has it."""
    try:
        os.link(temp, path)  # atomic, and fails where the name exists
    except FileExistsError:
        return False
    return True


def _replace(temp: str, path: Path) -> None:
    """Give the finished file its name, with a later time than what had it: the time is what tells versions apart.

    Disks stamp files by a clock that ticks every few milliseconds only. A file from the far future stays no model.
    """
    with contextlib.suppress(FileNotFoundError):
        before = path.stat().st_mtime_ns
        if 0 <= before - os.stat(temp).st_mtime_ns < _TICK_NS:
            os.utime(temp, ns=(before + 1, before + 1))
    os.replace(temp, path)
