"""Some columns of a clip shard without its videos: what selections, listings and readers look at first."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyarrow import ipc

from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.storage import S3Storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.schema import CLIPS, check_schema

MEDIA = ("video", "audio")
LIGHT = tuple(name for name in CLIPS.names if name not in MEDIA)
"""Everything but the media: about 500 bytes a clip."""


def read_columns(
    dataset: Dataset, shard: str, columns: Sequence[str] = LIGHT, generation: str | None = None
) -> pa.Table:
    """Columns of a clip shard, in the rows' order, as a table in memory.

    In a bucket only their bytes are read (a ten-thousandth of the shard), in ranges.

    Raises:
        NotFound, Conflict, BadInput, Unsupported: as `open_shard`. Unavailable: the store does not answer.
    """
    name, made = dataset.generation(generation)
    entry = made.shards.get(shard)
    storage = dataset.storage
    if entry is None or not isinstance(storage, S3Storage):
        with dataset.clips(shard, name) as table:
            # The mapping ends with the block: a copy outlives it.
            return pa.Table.from_pylist(table.select(columns).to_pylist(), schema=_only(columns))
    where = f"{storage.root}/{entry.key}"
    file = storage.arrow_file(entry.key)
    try:
        with file:
            check_schema(ipc.open_file(file).schema, "clips", where)
            wanted = [k for k, field in enumerate(CLIPS) if field.name in columns]
            options = ipc.IpcReadOptions(included_fields=wanted)
            table = ipc.open_file(file, options=options).read_all()
    except pa.ArrowInvalid as error:
        raise BadInput(f"{where} is no readable Arrow file: {error}") from None
    except OSError as error:
        raise Unavailable(f"{where}: {error}") from None
    return table.select(columns).replace_schema_metadata(None)


def _only(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([CLIPS.field(name) for name in columns])
