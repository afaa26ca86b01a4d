"""One source, what can be wrong with it, and its size and stamp on a disk or in a bucket."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput, Forbidden, NotFound, Unavailable
from ifmdm_core.storage import S3Config, Storage, open_storage
from ifmdm_core.uri import Uri
from pipelines.clips.names import unescape_name
from pipelines.retry import with_retries


class SourceItem(BaseModel):
    """One video, or the part [start, end) of one, and what is said about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="name relative to SOURCE, or a whole URI outside it; escaped")
    uri: str = Field(description="absolute path or s3:// URI; escaped")
    size: int = Field(description="bytes")
    stamp: str = Field(description="modification time in nanoseconds, or ETag: another one means, hash again")
    start: float | None = Field(None, description="seconds from the first frame")
    end: float | None = Field(None, description="seconds from the first frame")
    identity: str | None = None
    labels: tuple[str, ...] = ()
    rights: str | None = None
    consent: str | None = None
    split: str | None = None


class SourceFault(NamedTuple):
    """Something named by SOURCE that is no usable source."""

    source: str
    """name, or `list.csv line 7`; escaped"""
    reason: str
    """short and stable, to group by"""
    detail: str


class SourceList(NamedTuple):
    """What SOURCE names: usable items in the order of their names, and faults."""

    items: list[SourceItem]
    faults: list[SourceFault]


@functools.lru_cache(maxsize=16)
def bucket_store(bucket: str, s3: S3Config | None) -> Storage:
    """The store of a whole bucket; its clients are shared, as they take long to build."""
    return open_storage(Uri("s3", bucket, ""), s3)


def stat_sources(uris: Iterable[str], s3: S3Config | None) -> dict[str, tuple[int, str] | SourceFault]:
    """Size and stamp of escaped URIs, or what is wrong with each; buckets are asked in parallel."""

    def look(shown: str) -> tuple[int, str] | SourceFault:
        raw = unescape_name(shown)
        try:
            if raw.startswith(b"s3://"):
                uri = Uri.parse(raw.decode())
                store = bucket_store(uri.bucket, s3)
                entry = with_retries(lambda: store.info(uri.path), f"HEAD {shown}")
                return (entry.size, entry.etag) if entry else SourceFault(shown, "missing", "no such object")
            status = os.stat(raw)
        except (FileNotFoundError, NotADirectoryError):
            return SourceFault(shown, "missing", "no such file")
        except (BadInput, UnicodeDecodeError) as error:
            return SourceFault(shown, "unreadable name", str(error))
        except OSError as error:
            with reading(shown):
                raise error
        if not stat.S_ISREG(status.st_mode):
            return SourceFault(shown, "not a file", "a folder, device, pipe or socket")
        return status.st_size, str(status.st_mtime_ns)

    unique = sorted(set(uris))
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(unique, pool.map(look, unique), strict=True))


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """OSErrors of a local source as ours."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"source {name!r} is gone", fix="list the sources again") from None
    except PermissionError:
        raise Forbidden(f"source {name!r} may not be read", fix="change its permissions") from None
    except OSError as error:
        raise Unavailable(f"source {name!r}: {error.strerror}") from None
