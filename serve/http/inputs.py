"""Where a request's picture and recording come from: an upload, or a place the caller's token may name."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from fastapi import UploadFile

from ifmdm_core.errors import BadInput, Forbidden, NotFound
from ifmdm_core.storage import open_storage
from ifmdm_core.uri import Uri
from serve.protection.callers import Caller

MB = 1_000_000


async def given_file(
    upload: UploadFile | None, uri: str | None, field: str, most_mb: float, caller: Caller, folder: Path
) -> tuple[Path, str]:
    """The file as a local one in `folder`, and what to call it.

    Args:
        field: name of the form's field, in messages.
        most_mb: most MB.

    Raises:
        BadInput: none given, both given, empty, too large. Forbidden: outside the token's places.
        NotFound: nothing at the URI. Unsupported: http and other schemes.
    """
    if (upload is None) == (uri is None):
        both = "both" if upload is not None else "neither"
        raise BadInput(f"{both} of {field} and {field}_uri given", fix=f"give {field} or {field}_uri")
    target = folder / field
    if upload is not None:
        size = upload.size or 0
        if size > most_mb * MB:
            raise _too_large(field, size, most_mb)
        if size == 0:
            raise BadInput(f"{field} is empty (0 bytes)", fix="give a complete file")
        await asyncio.to_thread(_copy, upload.file, target)
    else:
        await asyncio.to_thread(_fetch, Uri.parse(str(uri)), field, most_mb, caller, target)
    return target, field


def _fetch(uri: Uri, field: str, most_mb: float, caller: Caller, target: Path) -> None:
    if not any(uri.inside(Uri.parse(place)) for place in caller.inputs):
        raise Forbidden(
            f"{field}_uri {str(uri)!r} is outside the places this token may read",
            fix=f"it may read {', '.join(caller.inputs)}" if caller.inputs else "upload the file",
        )
    if uri.scheme == "file":
        _read_local(uri, field, most_mb, target)
        return
    parent, _, name = uri.path.rpartition("/")
    storage = open_storage(Uri("s3", uri.bucket, parent))
    found = storage.info(name)
    if found is None:
        raise NotFound(f"there is nothing at {str(uri)!r}", fix="check the address")
    if found.size > most_mb * MB:
        raise _too_large(field, found.size, most_mb)
    storage.fetch(name, target)


def _read_local(uri: Uri, field: str, most_mb: float, target: Path) -> None:
    # `inside` has followed all links; what is opened is the place they led to, and no link made since.
    try:
        descriptor = os.open(Path(uri.path).resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise NotFound(f"there is nothing readable at {str(uri)!r}", fix="check the path") from None
    stat = os.fstat(descriptor)
    if not S_ISREG(stat.st_mode):
        os.close(descriptor)
        raise BadInput(f"{str(uri)!r} is no file", fix="name a file")
    with os.fdopen(descriptor, "rb") as file:
        if stat.st_size > most_mb * MB:
            raise _too_large(field, stat.st_size, most_mb)
        _copy(file, target)


def _copy(source: BinaryIO, target: Path) -> None:
    source.seek(0)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _too_large(field: str, size: int, most_mb: float) -> BadInput:
    return BadInput(
        f"{field} has {size / MB:.1f} MB; at most {most_mb:g} are taken",
        fix="make the picture smaller or cut the recording",
        too_large=True,
    )
