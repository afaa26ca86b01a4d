"""What every store offers, whatever it is made of."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ifmdm_core.errors import BadInput
from ifmdm_core.uri import Uri


@dataclass(frozen=True)
class Item:
    """One listed object."""

    key: str
    size: int
    """bytes"""
    modified: datetime
    """by the store's clock, UTC"""
    etag: str = ""
    """changes when the object is written again: S3's ETag, a file's modification time in nanoseconds"""


class Storage(Protocol):
    """What both kinds of store offer; keys are relative to the store's root and checked by `check_key`."""

    root: Uri

    def get(self, key: str) -> bytes:
        """The bytes of `key`; NotFound when absent."""
        ...

    def start(self, key: str, size: int) -> bytes:
        """The first `size` bytes of `key`, fewer where it is shorter; NotFound when absent."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write `key` whole; readers see the old or the new bytes, never a mixture."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write `key` only if nothing is there: True for the one writer that did, False for the others.

        Raises:
            Unavailable: the store's answer leaves open whether the write happened; read `key` back.
        """
        ...

    def fetch(self, key: str, path: Path) -> None:
        """Download `key` to the local file `path`, streamed; `path` appears complete or not at all.

        Raises:
            NotFound: nothing at `key`.
            DiskFull: no room at `path`.
        """
        ...

    def upload(self, key: str, path: Path) -> None:
        """A finished local file becomes `key`, whole or not at all; whatever was at `key` is replaced.

        Raises:
            NotFound: no file at `path`, or no bucket.
            DiskFull: no room in the store.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """Where `key` lies as a local file, which may be absent; None for a store that is not on this disk."""
        ...

    def arrow_file(self, key: str) -> Any:
        """`key` as a seekable pyarrow file, to read parts of it without the rest: mapped, or read in ranges.

        Raises:
            NotFound: nothing at `key`.
        """
        ...

    def info(self, key: str) -> Item | None:
        """Size, time and ETag of `key` without its bytes; None when absent."""
        ...

    def age(self, key: str) -> float | None:
        """Seconds since `key` was last written, by the store's own clock alone; None when absent.

        S3 tells whole seconds, so there the answer may be a second off. Below zero where parts of the store disagree
        about the time.
        """
        ...

    def list(self, prefix: str = "", limit: int | None = None) -> Iterator[Item]:
        """Objects whose key starts with `prefix`, in the order of their keys' UTF-8 bytes; the first `limit`.

        A limit of up to `LIST_PAGE` costs one request.
        """
        ...

    def folders(self, prefix: str = "") -> builtins.list[str]:
        """Names, sorted, of the folders that hold something directly under `prefix`: "", or ending with a slash.

        With keys `queue/a/1` and `queue/b/c/2`, those under `queue/` are ["a", "b"].
        """
        ...

    def delete(self, key: str) -> None:
        """Remove `key`; removing what is absent is no error."""
        ...

    def delete_if(self, key: str, etag: str) -> bool:
        """Remove `key` while it is the version `etag` (of `Item`); False, and nothing removed, when it is another.

        True when it was removed or is absent. A folder compares and then removes: what replaces the file in the
        microseconds between is lost.
        """
        ...

    def place(self, key: str, path: Path, sha256: str, over: str | None = None) -> bool:
        """A finished local file becomes `key`, whole, if nothing is there, or only over the version `over`.

        `sha256` (hexadecimal, of the file; not checked) is kept beside the bytes for `digest`. False, and nothing
        written, when something else is at `key`, or nothing where `over` should be.

        Exact where nothing is there, and on S3 with `over` too. A folder compares with `over` and then replaces, as
        does an S3 store that does not know conditional writes: of two writers at that same moment the later stays.

        Raises:
            NotFound: no file at `path`, or no bucket.
            BadInput: larger than the 5 GiB that S3 takes in one request.
            DiskFull: no room in the store.
            Unavailable: the store's answer leaves open whether the write happened; compare `digest`.
        """
        ...

    def digest(self, key: str) -> str | None:
        """SHA-256 of the bytes at `key`, hexadecimal; None when absent.

        S3 answers from what `place` has kept there, and "" for an object written in another way; a folder reads
        the bytes.
        """
        ...

    def presigned(self, key: str, seconds: int) -> str:
        """A URL that anybody can GET `key` with for so long; nobody looks whether there is something at `key`.

        For a folder a `file://` URL, which ends with nothing and opens only where the folder can be read.

        Raises:
            BadInput: not 1 to 604,800 seconds (seven days, the most S3 signs for).
        """
        ...

    def versioned(self) -> bool | None:
        """Whether the store keeps old versions of what is overwritten or deleted; None when it does not say."""
        ...


def check_prefix(prefix: str) -> None:
    """Refuse what is no beginning of a key."""
    if prefix.startswith("/") or any(part in ("..", ".") for part in prefix.split("/")) or "\0" in prefix:
        raise BadInput(f"prefix {prefix!r} is not a plain relative path")


def check_folder(prefix: str) -> None:
    """Refuse what is no prefix of whole folders."""
    check_prefix(prefix)
    if prefix and not prefix.endswith("/"):
        raise BadInput(f"{prefix!r} names no folder", fix="end it with a slash")


def check_seconds(seconds: int) -> None:
    """Refuse lifetimes that no store signs a URL for."""
    if not 1 <= seconds <= 604_800:
        raise BadInput(f"a URL cannot be signed for {seconds} s", fix="from 1 to 604800 (seven days)")
