"""A bucket in memory with S3's semantics, for simulations and tests: every request happens whole at one instant.

Create-if-absent is exact. Nothing here is safe for several threads.
"""

from __future__ import annotations

import builtins
import hashlib
import math
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from ifmdm_core.errors import NotFound, Unsupported
from ifmdm_core.storage.protocol import Item, check_folder, check_prefix, check_seconds
from ifmdm_core.uri import Uri, check_key

Result = TypeVar("Result")
Op = Literal["get", "put", "create", "fetch", "upload", "info", "age", "list", "delete", "place", "digest"]
Gate = Callable[[Op, str, Callable[[], Any]], Any]
"""Carries out a request: (what it is, key in the bucket, its effect). May let it fail, before the effect or after."""
WRITES: frozenset[Op] = frozenset(("put", "create", "upload", "delete", "place"))


@dataclass(frozen=True)
class Object:
    """One version of a key."""

    data: bytes
    etag: str
    modified: float
    sha256: str
    """As `place` was told; "" for what was written in another way."""


class Bucket:
    """All objects by key.

    Args:
        now: the store's clock, seconds since 1970.
    """

    def __init__(self, name: str, now: Callable[[], float] = time.time) -> None:
        self.name, self.now = name, now
        self.objects: dict[str, Object] = {}
        self.keys: list[str] = []
        """sorted"""
        self.watch: Callable[[str, Object | None], None] = lambda key, before: None
        """Called right after every change, with what was there before."""

    def write(self, key: str, data: bytes, sha256: str = "") -> None:
        before = self.objects.get(key)
        if before is None:
            insort(self.keys, key)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.objects[key] = Object(data, etag, self.now(), sha256)
        self.watch(key, before)

    def remove(self, key: str) -> None:
        before = self.objects.pop(key, None)
        if before is not None:
            del self.keys[bisect_left(self.keys, key)]
            self.watch(key, before)

    def under(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and come after `after`, in order."""
        at = bisect_left(self.keys, max(prefix, after + "\0" if after else ""))
        while at < len(self.keys) and self.keys[at].startswith(prefix):
            yield self.keys[at]
            at += 1


class MemoryStorage:
    """A `Storage` on a bucket, as one process sees it.

    Args:
        page: keys that one listing request gives.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str = "",
        gate: Gate = lambda op, key, effect: effect(),
        page: int = 1000,
    ) -> None:
        self.root = Uri("s3", bucket.name, prefix)
        self._bucket, self._gate, self._page = bucket, gate, page
        self._prefix = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""

    def get(self, key: str) -> bytes:
        return bytes(self._gate("get", self._key(key), lambda: self._there(key).data))

    def start(self, key: str, size: int) -> bytes:
        return self.get(key)[:size]

    def put(self, key: str, data: bytes) -> None:
        self._gate("put", self._key(key), lambda: self._bucket.write(self._key(key), data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        def effect() -> bool:
            if self._key(key) in self._bucket.objects:
                return False
            self._bucket.write(self._key(key), data)
            return True

        return bool(self._gate("create", self._key(key), effect))

    def fetch(self, key: str, path: Path) -> None:
        path.write_bytes(self._gate("fetch", self._key(key), lambda: self._there(key).data))

    def upload(self, key: str, path: Path) -> None:
        data = _read(path)
        self._gate("upload", self._key(key), lambda: self._bucket.write(self._key(key), data))

    def local_path(self, key: str) -> Path | None:
        return None

    def arrow_file(self, key: str) -> NoReturn:
        raise Unsupported(f"{key}: nothing in memory is read by pyarrow")

    def info(self, key: str) -> Item | None:
        return self._gate("info", self._key(key), lambda: self._item(self._key(key)))  # type: ignore[no-any-return]

    def age(self, key: str) -> float | None:
        def effect() -> float | None:
            found = self._bucket.objects.get(self._key(key))
            if found is None:
                return None
            return float(max(0, math.floor(self._bucket.now()) - math.floor(found.modified)))

        return self._gate("age", self._key(key), effect)  # type: ignore[no-any-return]

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        check_prefix(prefix)
        left = math.inf if limit is None else limit
        last = ""
        while left > 0:
            size = int(min(self._page, left))
            after, found = last, builtins.list[Item]()

            def effect(size: int = size, after: str = after, found: builtins.list[Item] = found) -> None:
                found.clear()
                for key in self._bucket.under(self._prefix + prefix, after):
                    if len(found) == size:
                        break
                    item = self._item(key)
                    assert item is not None
                    found.append(item)

            self._gate("list", self._prefix + prefix, effect)
            yield from found
            if len(found) < size:
                return
            last, left = self._prefix + found[-1].key, left - size

    def folders(self, prefix: str = "") -> builtins.list[str]:
        check_folder(prefix)

        def effect() -> builtins.list[str]:
            start, found = self._prefix + prefix, builtins.list[str]()
            after = ""
            while (key := next(self._bucket.under(start, after), None)) is not None:
                name, slash, _ = key[len(start) :].partition("/")
                if slash:
                    found.append(name)
                after = f"{start}{name}/\U0010ffff" if slash else key
            return sorted(found)

        return self._gate("list", self._prefix + prefix, effect)  # type: ignore[no-any-return]

    def delete(self, key: str) -> None:
        self._gate("delete", self._key(key), lambda: self._bucket.remove(self._key(key)))

    def delete_if(self, key: str, etag: str) -> bool:
        def effect() -> bool:
            found = self._bucket.objects.get(self._key(key))
            if found is not None and found.etag != etag:
                return False
            self._bucket.remove(self._key(key))
            return True

        return bool(self._gate("delete", self._key(key), effect))

    def place(self, key: str, path: Path, sha256: str, over: str | None = None) -> bool:
        data = _read(path)

        def effect() -> bool:
            found = self._bucket.objects.get(self._key(key))
            if (found.etag if found is not None else None) != over:
                return False
            self._bucket.write(self._key(key), data, sha256)
            return True

        return bool(self._gate("place", self._key(key), effect))

    def digest(self, key: str) -> str | None:
        def effect() -> str | None:
            found = self._bucket.objects.get(self._key(key))
            return None if found is None else found.sha256

        return self._gate("digest", self._key(key), effect)  # type: ignore[no-any-return]

    def presigned(self, key: str, seconds: int) -> str:
        check_seconds(seconds)
        return f"https://{self.root.bucket}.example/{self._key(key)}?X-Amz-Expires={seconds}"

    def versioned(self) -> bool | None:
        return False

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _there(self, key: str) -> Object:
        found = self._bucket.objects.get(self._key(key))
        if found is None:
            raise NotFound(f"nothing at 's3://{self._bucket.name}/{self._key(key)}'")
        return found

    def _item(self, key: str) -> Item | None:
        found = self._bucket.objects.get(key)
        if found is None:
            return None
        modified = datetime.fromtimestamp(math.floor(found.modified), UTC)
        return Item(key[len(self._prefix) :], len(found.data), modified, found.etag)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"nothing at {str(path)!r}") from None
