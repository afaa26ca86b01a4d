"""Stores that count what is asked of them, as S3 would charge for it; the same calls on a folder count the same."""

from __future__ import annotations

import builtins
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ifmdm_core.storage import LIST_PAGE, Item, S3Config, Storage
from jobs.tenants import Places

PUT, GET, LIST, DELETE = "put", "get", "list", "delete"
"""Kinds of requests: S3 charges LIST like PUT, HEAD like GET, and nothing for DELETE."""
PRICES = {PUT: 0.005 / 1000, LIST: 0.005 / 1000, GET: 0.0004 / 1000, DELETE: 0.0}
"""$ per request, as S3 Standard charges in most regions."""


class Requests:
    """What was asked, by kind and by the first folder of the key. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kinds: Counter[str] = Counter()
        self.folders: Counter[str] = Counter()
        """PUT and LIST requests alone; S3 limits them by prefix."""

    def add(self, kind: str, key: str) -> None:
        with self._lock:
            self.kinds[kind] += 1
            if kind in (PUT, LIST):
                self.folders[key.split("/")[0]] += 1

    def since(self, before: Counter[str]) -> dict[str, int]:
        """By kind, beyond what `kinds` was."""
        return dict(self.kinds - before)


def cost(kinds: dict[str, float]) -> float:
    """$ of so many requests."""
    return sum(PRICES[kind] * count for kind, count in kinds.items())


class CountedStorage:
    """`storage`, counted in `requests`."""

    def __init__(self, storage: Storage, requests: Requests, folder: str = "") -> None:
        """`folder` is what its keys count as; by default their own first one."""
        self.root = storage.root
        self._storage, self._requests, self._folder = storage, requests, folder

    def _count(self, kind: str, key: str) -> None:
        self._requests.add(kind, self._folder or key)

    def get(self, key: str) -> bytes:
        self._count(GET, key)
        return self._storage.get(key)

    def start(self, key: str, size: int) -> bytes:
        self._count(GET, key)
        return self._storage.start(key, size)

    def put(self, key: str, data: bytes) -> None:
        self._count(PUT, key)
        self._storage.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._count(PUT, key)
        return self._storage.put_if_absent(key, data)

    def fetch(self, key: str, path: Path) -> None:
        self._count(GET, key)
        self._storage.fetch(key, path)

    def upload(self, key: str, path: Path) -> None:
        self._count(PUT, key)
        self._storage.upload(key, path)

    def info(self, key: str) -> Item | None:
        self._count(GET, key)
        return self._storage.info(key)

    def age(self, key: str) -> float | None:
        self._count(GET, key)
        return self._storage.age(key)

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        self._count(LIST, prefix)
        for number, item in enumerate(self._storage.list(prefix, limit)):
            if number and number % LIST_PAGE == 0:
                self._count(LIST, prefix)
            yield item

    def folders(self, prefix: str = "") -> builtins.list[str]:
        self._count(LIST, prefix)
        return self._storage.folders(prefix)

    def delete(self, key: str) -> None:
        self._count(DELETE, key)
        self._storage.delete(key)

    def delete_if(self, key: str, etag: str) -> bool:
        self._count(DELETE, key)
        return self._storage.delete_if(key, etag)

    def place(self, key: str, path: Path, sha256: str, over: str | None = None) -> bool:
        self._count(PUT, key)
        return self._storage.place(key, path, sha256, over)

    def digest(self, key: str) -> str | None:
        self._count(GET, key)
        return self._storage.digest(key)

    def local_path(self, key: str) -> Path | None:
        return self._storage.local_path(key)

    def arrow_file(self, key: str) -> Any:
        return self._storage.arrow_file(key)

    def presigned(self, key: str, seconds: int) -> str:
        return self._storage.presigned(key, seconds)

    def versioned(self) -> bool | None:
        return self._storage.versioned()


class CountedPlaces(Places):
    """Inputs and outputs, counted too; their keys count as "inputs and outputs"."""

    def __init__(self, requests: Requests, s3: S3Config | None = None) -> None:
        super().__init__(s3)
        self._requests = requests

    def _storage(self, prefix: str) -> Storage:
        return CountedStorage(super()._storage(prefix), self._requests, "inputs and outputs")
