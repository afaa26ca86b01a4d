"""Files that are written under another name first, so that nobody sees half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CHUNK = 1 << 20
"""Bytes copied at a time."""
TEMP_PREFIX = ".ifmdm-tmp-"
"""Names that no key may have and no listing shows."""


@contextlib.contextmanager
def temp_beside(path: Path, mode: int = 0o600) -> Iterator[tuple[IO[bytes], str]]:
    """An open temporary file in the folder of `path` and its name; gone afterwards unless renamed.

    Args:
        mode: who may read and write it, less what the umask forbids.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = str(path.parent / f"{TEMP_PREFIX}{secrets.token_hex(8)}")
    handle = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, temp
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)


def sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
