"""One Arrow file: written to local disk, reopened and counted, uploaded once; read by mapping it into memory.

A stream straight into an object store can publish a file cut short; a finished local file cannot.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from ifmdm_core.errors import BadInput, Conflict, IfmdmError, NotFound
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import Storage
from ifmdm_core.storage.faults import disk_errors
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.schema import CLIPS, check_schema, feature_schema, metadata_of, with_metadata

BATCH_BYTES = 8 << 20
"""Most that a record batch holds, so that a reader's memory stays small."""


def write_clip_shard(
    storage: Storage, folder: str, name: str, rows: Iterable[Mapping[str, Any]], *, inputs: str, scratch: Path
) -> ShardEntry:
    """Clip rows (dictionaries of the columns of `schema.CLIPS`) as `<folder>/<name>-<sha8>.arrow`."""
    schema = with_metadata(CLIPS, "clips", {"inputs": inputs})
    frames = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal frames
        held: list[Mapping[str, Any]] = []
        size = 0
        for row in rows:
            weight = len(row["video"]) + len(row["audio"] or b"")
            if held and size + weight > BATCH_BYTES:
                yield pa.RecordBatch.from_pylist(held, schema=schema)
                held, size = [], 0
            held.append(row)
            size += weight
            frames += row["num_frames"]
        if held:
            yield pa.RecordBatch.from_pylist(held, schema=schema)

    return _write(storage, folder, name, "clips", schema, batches(), inputs, scratch, lambda: (frames, 0))


def write_feature_shard(
    storage: Storage,
    folder: str,
    name: str,
    kind: str,
    dim: int,
    clip_ids: Sequence[str],
    values: Sequence[np.ndarray | None],
    *,
    inputs: str,
    clips_key: str,
    scratch: Path,
) -> ShardEntry:
    """Features [frames, dim] of a shard's clips, None for a hole; `clips_key` is the clip shard's key."""
    schema = with_metadata(
        feature_schema(kind, dim), kind, {"inputs": inputs, "clips": clips_key, "dim": str(dim)}
    )
    per_row = [0 if value is None else value.nbytes for value in values]

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        while first < len(values):
            last, size = first + 1, per_row[first]
            while last < len(values) and size + per_row[last] <= BATCH_BYTES:
                size += per_row[last]
                last += 1
            column = _nested(values[first:last], schema.field(kind).type, dim)
            ids = pa.array(clip_ids[first:last], pa.string())
            yield pa.RecordBatch.from_arrays([ids, column], schema=schema)
            first = last

    frames = sum(0 if value is None else len(value) for value in values)
    holes = sum(value is None for value in values)
    return _write(storage, folder, name, kind, schema, batches(), inputs, scratch, lambda: (frames, holes))


def _nested(values: Sequence[np.ndarray | None], kind: pa.DataType, dim: int) -> pa.Array:
    lengths = [0 if value is None else len(value) for value in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    item = kind.value_type.value_type.to_pandas_dtype()
    arrays = [np.ascontiguousarray(value, item).reshape(-1) for value in values if value is not None]
    flat = pa.array(np.concatenate(arrays) if arrays else np.zeros(0, item))
    rows = pa.FixedSizeListArray.from_arrays(flat, dim)
    large = pa.types.is_large_list(kind)
    array = pa.LargeListArray if large else pa.ListArray
    mask = pa.array([value is None for value in values])
    return array.from_arrays(
        pa.array(offsets, pa.int64() if large else pa.int32()), rows, type=kind, mask=mask
    )


def _write(
    storage: Storage, folder: str, name: str, kind: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch],
    inputs: str, scratch: Path, counts: Any,
) -> ShardEntry:  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ifmdm-shard-", dir=scratch) as room:
        path = Path(room) / "shard.arrow"
        expected = 0
        full = disk_errors(str(path))  # a full disk is told as such, not as a fault of the clips
        with full, pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                expected += batch.num_rows
        with pa.memory_map(str(path)) as source:
            reader = ipc.open_file(source)
            check_schema(reader.schema, kind, f"{folder}/{name}")
            found = sum(reader.get_batch(k).num_rows for k in range(reader.num_record_batches))
        if found != expected:
            raise IfmdmError(f"{folder}/{name}: {expected} rows written, {found} read back")
        sha256, size = sha256_of_file(path), path.stat().st_size
        key = f"{folder}/{name}-{sha256[:8]}.arrow"
        storage.upload(key, path)
    frames, holes = counts()
    return ShardEntry(
        key=key, sha256=sha256, bytes=size, rows=expected, frames=frames, holes=holes, inputs=inputs
    )


@contextmanager
def open_shard(
    storage: Storage,
    entry: ShardEntry,
    kind: str,
    scratch: Path | None = None,
    opened: Counter[str] | None = None,
    verify: bool = False,
) -> Iterator[pa.Table]:
    """The rows of a shard, mapped; a bucket's shard is fetched to local disk first, in one request.

    Args:
        opened: counts what was opened, by kind.
        verify: check the sha256 too, before rows are copied or features made from it.

    Raises:
        NotFound: the file is gone. Conflict: it is not the file of the manifest. BadInput: it is no such shard.
    """
    if opened is not None:
        opened[kind] += 1
    with tempfile.TemporaryDirectory(prefix="ifmdm-read-", dir=scratch) as room:
        path = storage.local_path(entry.key)
        if path is None:
            path = Path(room) / "shard.arrow"
            storage.fetch(entry.key, path)
        if verify and path.exists() and (found := sha256_of_file(path)) != entry.sha256:
            raise Conflict(
                f"{storage.root}/{entry.key} has sha256 {found[:12]}, the manifest says {entry.sha256[:12]}",
                fix="it is damaged: ifmdm data verify --repair, then run again",
            )
        with mapped(path, entry, kind, f"{storage.root}/{entry.key}") as table:
            yield table


@contextmanager
def mapped(path: Path, entry: ShardEntry, kind: str, name: str) -> Iterator[pa.Table]:
    """`open_shard` for a file that is on local disk already."""
    try:
        source = pa.memory_map(str(path))
    except FileNotFoundError:
        raise NotFound(f"{name} is listed but not there", fix="ifmdm data verify names all such") from None
    with source:
        if source.size() != entry.bytes:
            raise Conflict(
                f"{name} has {source.size()} bytes, the manifest says {entry.bytes}",
                fix="it is damaged: ifmdm data verify --repair, then run again",
            )
        try:
            table = ipc.open_file(source).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise BadInput(f"{name} is no readable Arrow file: {error}") from None
        check_schema(table.schema, kind, name)
        if table.num_rows != entry.rows:
            raise Conflict(f"{name} has {table.num_rows} rows, the manifest says {entry.rows}")
        yield table


def check_alignment(features: pa.Table, clips: pa.Table, clips_key: str, name: str) -> None:
    """Refuse feature rows that do not belong, one by one, to these clip rows.

    Raises:
        Conflict: made from another version of the clip shard, or rows in another order.
    """
    made_from = metadata_of(features.schema).get("clips")
    if made_from != clips_key:
        raise Conflict(
            f"{name} was made from clips {made_from}, these are {clips_key}",
            fix="run ifmdm data features again",
        )
    if features.column("clip_id") != clips.column("clip_id"):
        raise Conflict(
            f"{name}: its rows are not those of its clip shard", fix="run ifmdm data features again"
        )


def feature_values(column: pa.ChunkedArray, row: int, dim: int) -> np.ndarray | None:
    """Features [frames, dim] of one row without a copy; None for a hole."""
    value = column[row]
    if not value.is_valid:
        return None
    flat = value.values.flatten()
    return flat.to_numpy(zero_copy_only=False).reshape(-1, dim)  # type: ignore[no-any-return]
