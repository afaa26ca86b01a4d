"""Finished files: the groups of a stream kept while it runs, then one MP4, signed, at files/<tenant>/<id>.mp4."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from ifmdm_core.errors import NotFound
from ifmdm_core.media.audio import Audio
from ifmdm_core.media.fragments import finished_mp4
from ifmdm_core.storage import S3Config, open_storage
from serve.signing import Signer

_ID = re.compile(r"[0-9a-f]{32}")


class GopSpool:
    """Groups of pictures on disk until the stream is whole; they go with the object."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="ifmdm-gops-")  # noqa: SIM115  # kept open
        self._sizes: list[int] = []

    def add(self, gop: bytes) -> None:
        """Keep one more."""
        self._file.write(gop)
        self._sizes.append(len(gop))

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def __enter__(self) -> GopSpool:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class FinishedFiles:
    """The files under one root. Blocking: not for event loops.

    Args:
        root: folder or s3:// prefix.
        days: how long a file is kept.
    """

    def __init__(self, root: str, days: float, signer: Signer, s3: S3Config | None = None) -> None:
        self._storage = open_storage(root, s3)
        self._kept, self._signer = timedelta(days=days), signer

    def publish(
        self, tenant: str, name: str, gops: Iterator[bytes], audio: Audio, fps: int, tags: dict[str, str]
    ) -> None:
        """Join, sign (last: a manifest covers the bytes) and store.

        Raises IfmdmError where frames are missing, Unavailable or DiskFull where there is no room.
        """
        with tempfile.TemporaryDirectory(prefix="ifmdm-file-") as folder:
            plain, signed = Path(folder, "plain.mp4"), Path(folder, f"{name}.mp4")
            finished_mp4(gops, audio, fps, tags, plain)
            self._signer.sign(plain, signed)
            self._storage.upload(_key(tenant, name), signed)

    @contextmanager
    def local(self, tenant: str, name: str) -> Iterator[Path]:
        """The file on this disk, for as long as the context lasts.

        Raises NotFound where this tenant has no such file (any more).
        """
        key = _key(tenant, name)
        if self._storage.info(key) is None:
            raise NotFound(f"there is no file {name}", fix="render it again; files are kept for some days")
        there = self._storage.local_path(key)
        if there is not None:
            yield there
            return
        with tempfile.TemporaryDirectory(prefix="ifmdm-file-") as folder:
            copy = Path(folder, f"{name}.mp4")
            self._storage.fetch(key, copy)
            yield copy

    def sweep(self) -> int:
        """Removes files that are too old; how many went."""
        old = [
            item for item in self._storage.list("files/") if datetime.now(UTC) - item.modified > self._kept
        ]
        for item in old:
            self._storage.delete(item.key)
        return len(old)


def _key(tenant: str, name: str) -> str:
    if not _ID.fullmatch(name):
        raise NotFound(f"there is no file {name[:80]!r}", fix="an id has 32 hex digits")
    return f"files/{tenant}/{name}.mp4"
