"""Some columns of a shard, batch by batch: what selections, listings and readers look at without opening a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable, nearest
from ifmdm_core.storage import Storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.schema import CLIPS, check_schema

MEDIA = ("video", "audio")
LIGHT = tuple(name for name in CLIPS.names if name not in MEDIA)
"""Columns of a clip shard without the media: about 500 bytes a clip."""


def read_columns(
    dataset: Dataset, shard: str, columns: Sequence[str] = LIGHT, generation: str | None = None
) -> pa.Table:
    """Columns of a clip shard, in the rows' order, as a table in memory.

    Raises:
        NotFound: no such shard. Others as `read_batches`.
    """
    name, made = dataset.generation(generation)
    entry = made.shards.get(shard)
    if entry is None:
        raise NotFound(f"{dataset.storage.root} has no clip shard {shard!r} in generation {name}")
    batches = list(read_batches(dataset.storage, entry, "clips", columns))
    return pa.Table.from_batches(batches, pa.schema([CLIPS.field(column) for column in columns]))


def read_batches(
    storage: Storage, entry: ShardEntry, kind: str, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Record batches (at most 8 MB) of a shard with these columns, all when None, in that order.

    In a bucket only the columns' bytes are read, in ranges: without the media a ten-thousandth of a clip shard.

    Raises:
        NotFound: the file is gone. Conflict: its size is not the manifest's. BadInput: it is no such shard, or has
        no such column. Unavailable: the store does not answer.
    """
    name = f"{storage.root}/{entry.key}"
    with _opened(storage, entry, name) as file:
        try:
            if file.size() != entry.bytes:
                raise Conflict(
                    f"{name} has {file.size()} bytes, the manifest says {entry.bytes}",
                    fix="it is damaged: ifmdm data verify --repair, then run again",
                )
            schema = ipc.open_file(file).schema
            check_schema(schema, kind, name)
            wanted = schema.names if columns is None else list(columns)
            for column in wanted:
                if column not in schema.names:
                    raise BadInput(f"{name} has no column {column!r}", fix=nearest(column, schema.names))
            options = ipc.IpcReadOptions(included_fields=sorted(map(schema.get_field_index, wanted)))
            reader = ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number).select(wanted).replace_schema_metadata(None)
        except pa.ArrowInvalid as error:
            raise BadInput(f"{name} is no readable Arrow file: {error}") from None
        except OSError as error:
            raise Unavailable(f"{name}: {error}") from None


@contextmanager
def _opened(storage: Storage, entry: ShardEntry, name: str) -> Iterator[Any]:
    """A shard as a pyarrow file: mapped from disk, or read in ranges from a bucket."""
    try:
        file = storage.arrow_file(entry.key)
    except NotFound:
        raise NotFound(f"{name} is listed but not there", fix="ifmdm data verify names all such") from None
    with file:
        yield file
