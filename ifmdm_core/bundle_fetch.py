"""Bundles from where they lie (a folder, `s3://`) into a local cache, checked file by file."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ifmdm_core.bundle import DEMO, Bundle, BundleRecord, load_bundle
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.provenance import sha256_of
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import check_key

CACHE = "IFMDM_CACHE"


def fetch_bundle(
    uri: str, sha256: str | None = None, s3: S3Config | None = None, cache: str | Path | None = None
) -> Bundle:
    """The bundle at a folder or `s3://bucket/prefix`, in a local folder and checked file by file.

    Args:
        uri: "demo" is the one that comes with the package, which needs no copy.
        sha256: what the digest of bundle.json must be; None takes what is there.
        cache: keeps bundles by digest; by default $IFMDM_CACHE, else ~/.cache/ifmdm.

    Raises:
        NotFound: no bundle there. Conflict: another digest than `sha256`, or a damaged file.
        BadInput, Unsupported: as `load_bundle`.
    """
    storage = open_storage(str(DEMO) if uri == "demo" else uri, s3)
    try:
        data = storage.get("bundle.json")
    except NotFound:
        raise NotFound(f"no bundle at {uri}: it has no bundle.json", fix="check the address") from None
    found = sha256_of(data)
    if sha256 is not None and found != sha256:
        raise Conflict(
            f"the bundle at {uri} has sha256 {found}, expected {sha256}",
            fix="it was changed since it was named: register what is there, or restore it",
        )
    if uri == "demo":
        return load_bundle(uri)
    target = _cache(cache) / "bundles" / found
    if not (target / "bundle.json").is_file():
        _download(storage, data, uri, target)
    return load_bundle(target)


def _cache(given: str | Path | None) -> Path:
    return Path(given or os.environ.get(CACHE) or Path.home() / ".cache" / "ifmdm")


def _download(storage: Any, record: bytes, uri: str, target: Path) -> None:
    """All files of a bundle into `target`, which appears whole or not at all."""
    try:
        names = [check_key(name) for name in BundleRecord(**json.loads(record)).sha256]
    except ValueError as error:  # pydantic's and JSON's alike
        raise BadInput(
            f"{uri}/bundle.json: {str(error).splitlines()[0]}", fix="get the bundle again"
        ) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        folder = Path(scratch) / "bundle"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            storage.fetch(name, folder / name)
        (folder / "bundle.json").write_bytes(record)
        load_bundle(folder)  # a damaged download must not stay in the cache
        try:
            os.rename(folder, target)
        except OSError:  # somebody else was faster
            if not (target / "bundle.json").is_file():
                shutil.rmtree(target, ignore_errors=True)
                os.rename(folder, target)
