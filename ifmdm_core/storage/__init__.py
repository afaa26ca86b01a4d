"""Bytes and files by key on a folder or a bucket: get, put, put_if_absent, fetch, upload, info, list, delete.

`put_if_absent` is the primitive that everything durable stands on: of any number of racing writers of a key exactly
one gets True.
"""

from __future__ import annotations

from pathlib import Path

from ifmdm_core.storage.clients import S3Config, arrow_filesystem, s3_client
from ifmdm_core.storage.folder import FolderStorage
from ifmdm_core.storage.protocol import Item, Storage
from ifmdm_core.storage.s3 import LIST_PAGE, PART_SIZE, S3Storage
from ifmdm_core.uri import Uri

__all__ = [
    "LIST_PAGE",
    "PART_SIZE",
    "FolderStorage",
    "Item",
    "S3Config",
    "S3Storage",
    "Storage",
    "arrow_filesystem",
    "open_storage",
    "s3_client",
]


def open_storage(root: str | Path | Uri, config: S3Config | None = None) -> Storage:
    """The store at a folder path or `s3://bucket/prefix`."""
    uri = root if isinstance(root, Uri) else Uri.parse(root)
    return S3Storage(uri, config or S3Config()) if uri.scheme == "s3" else FolderStorage(uri)
