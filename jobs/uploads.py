"""Local files for a store in a bucket: uploads/<t>/<sha256><suffix>, written once, named by their bytes."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

from ifmdm_core.errors import BadInput, NotFound, Unavailable
from ifmdm_core.storage import Storage
from ifmdm_core.uri import Uri
from jobs.names import check_tenant

TRIES = 4
_SUFFIX = re.compile(r"\.[a-z0-9]{1,10}")
_NAME = re.compile(rf"(?P<sha256>[0-9a-f]{{64}})({_SUFFIX.pattern})?")


def uploaded_digest(root: Uri, tenant: str, uri: str) -> str | None:
    """sha256 of the bytes at `uri`, where that is something the tenant has uploaded to the store at `root`."""
    name = uri.removeprefix(f"{root.join(f'uploads/{tenant}')}/")
    found = _NAME.fullmatch(name)
    return found["sha256"] if found else None


class Uploads:
    """Puts files into the store. For any number of threads; each file is read and sent once.

    Args:
        storage: the job store's.
    """

    def __init__(self, storage: Storage, tenant: str) -> None:
        self._storage, self._tenant = storage, check_tenant(tenant)
        self._turn = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._uris: dict[tuple[str, int, int], str] = {}

    def uri(self, path: str, send: bool = True) -> str:
        """Where the file is in the store, put there if need be.

        Args:
            send: whether it is put there; without it the answer is where it would be.

        Raises NotFound, BadInput for no file, Forbidden, Unavailable.
        """
        local = Path(path)
        try:
            stat = local.stat()
        except OSError as error:
            raise NotFound(str(error.strerror).lower(), fix="check the path") from None
        if not local.is_file():
            raise BadInput("is no file", fix="name a file")
        version = (str(local.absolute()), stat.st_size, stat.st_mtime_ns)
        with self._turn:
            turn = self._turns.setdefault(version[0], threading.Lock())
        with turn:
            if version in self._uris:
                return self._uris[version]
            with local.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            suffix = local.suffix.lower()
            key = f"uploads/{self._tenant}/{sha256}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
            uri = str(self._storage.root.join(key))
            if send:
                self._send(key, local, sha256)
                self._uris[version] = uri
            return uri

    def _send(self, key: str, path: Path, sha256: str) -> None:
        for attempt in range(TRIES):
            # Never over what is there: it has these bytes, and jobs have pinned its version.
            if self._storage.info(key) is not None:
                return
            try:
                self._storage.place(key, path, sha256)
                return
            except Unavailable:
                if attempt == TRIES - 1:
                    raise
