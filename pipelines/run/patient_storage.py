"""A store whose busy moments and short failures are waited out, with the cause shown."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ifmdm_core.storage import Item, S3Config, Storage, open_storage
from pipelines.retry import with_retries

T = TypeVar("T")


class PatientStorage:
    """`Storage` with retries, but not of `put_if_absent` and `place`: their lost answers the caller must read back."""

    def __init__(self, storage: Storage, on_retry: Callable[[str], None] | None = None) -> None:
        self.root = storage.root
        self._storage, self._on_retry = storage, on_retry

    @classmethod
    def open(
        cls, uri: str, s3: S3Config | None = None, on_retry: Callable[[str], None] | None = None
    ) -> PatientStorage:
        """The store at a folder or `s3://bucket/prefix`."""
        return cls(open_storage(uri, s3), on_retry)

    def get(self, key: str) -> bytes:
        return self._patiently(lambda: self._storage.get(key), f"reading {key}")

    def start(self, key: str, size: int) -> bytes:
        return self._patiently(lambda: self._storage.start(key, size), f"reading {key}")

    def put(self, key: str, data: bytes) -> None:
        self._patiently(lambda: self._storage.put(key, data), f"writing {key}")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._storage.put_if_absent(key, data)

    def fetch(self, key: str, path: Path) -> None:
        self._patiently(lambda: self._storage.fetch(key, path), f"fetching {key}")

    def upload(self, key: str, path: Path) -> None:
        self._patiently(lambda: self._storage.upload(key, path), f"uploading {key}")

    def local_path(self, key: str) -> Path | None:
        return self._storage.local_path(key)

    def arrow_file(self, key: str) -> Any:
        return self._patiently(lambda: self._storage.arrow_file(key), f"opening {key}")

    def info(self, key: str) -> Item | None:
        return self._patiently(lambda: self._storage.info(key), f"looking at {key}")

    def age(self, key: str) -> float | None:
        return self._patiently(lambda: self._storage.age(key), f"looking at {key}")

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        # A listing is repeated from its start: pages seen before the fault must not come twice.
        return iter(self._patiently(lambda: [*self._storage.list(prefix, limit)], f"listing {prefix!r}"))

    def folders(self, prefix: str = "") -> builtins.list[str]:
        return self._patiently(lambda: self._storage.folders(prefix), f"listing {prefix!r}")

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._storage.delete(key), f"deleting {key}")

    def delete_if(self, key: str, etag: str) -> bool:
        return self._patiently(lambda: self._storage.delete_if(key, etag), f"deleting {key}")

    def place(self, key: str, path: Path, sha256: str, over: str | None = None) -> bool:
        return self._storage.place(key, path, sha256, over)

    def digest(self, key: str) -> str | None:
        return self._patiently(lambda: self._storage.digest(key), f"looking at {key}")

    def presigned(self, key: str, seconds: int) -> str:
        return self._storage.presigned(key, seconds)

    def versioned(self) -> bool | None:
        return self._patiently(self._storage.versioned, f"looking at {self.root}")

    def _patiently(self, call: Callable[[], T], what: str) -> T:
        return with_retries(call, what, on_retry=self._on_retry)
