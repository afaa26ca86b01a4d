"""Finished rows moved from old shards into new ones: no video is decoded and no model runs.

A clip shard holds the clips of its planned spans in the plan's order, so each span owns a run of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ifmdm_core.errors import Conflict
from ifmdm_core.storage import Storage
from pipelines.dataset.manifest import ShardEntry
from pipelines.dataset.plan import Plan, PlannedShard, Span
from pipelines.dataset.shard_file import feature_values, open_shard


@dataclass(frozen=True)
class Piece:
    """Rows [start, stop) of the shard called `shard`."""

    shard: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def rows_by_span(clips: pa.Table, shard: PlannedShard, plan: Plan) -> list[tuple[Span, Piece]]:
    """Which rows of a clip shard belong to each of its planned spans.

    Raises:
        Conflict: there are rows of no span, or in another order: the shard was not made from this plan.
    """
    digests = clips.column("source_sha256").to_pylist()
    starts = [span[0] for span in clips.column("span").to_pylist()]
    found, row = [], 0
    for span in shard.spans:
        first, before = row, -1.0
        sha256 = plan.sources[span.source].sha256
        while (
            row < len(starts)
            and digests[row] == sha256
            and before < starts[row]
            and span.start - 1e-9 <= starts[row] < span.end - 1e-9
        ):
            before = starts[row]
            row += 1
        found.append((span, Piece(shard.name, first, row)))
    if row < len(starts):
        raise Conflict(
            f"clip shard {shard.name}: row {row} is of no planned span there",
            fix="run ifmdm data clips to finish the dataset first",
        )
    return found


def copied_rows(
    storage: Storage, shards: Mapping[str, ShardEntry], pieces: Iterable[Piece], scratch: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Clip rows as dictionaries, piece by piece; a shard is opened once for pieces in a row, and checked.

    Raises what `open_shard` raises.
    """
    for table, piece in _opened(storage, shards, pieces, "clips", scratch):
        for batch in table.slice(piece.start, len(piece)).to_batches():
            for row in range(batch.num_rows):  # one at a time: a batch holds up to 8 MB of video
                yield batch.slice(row, 1).to_pylist()[0]


def copied_features(
    storage: Storage,
    shards: Mapping[str, ShardEntry],
    pieces: Iterable[Piece],
    kind: str,
    dim: int,
    scratch: Path | None = None,
) -> tuple[list[str], list[np.ndarray | None]]:
    """Clip ids and features [frames, dim] (None for a hole), piece by piece. Raises what `open_shard` raises."""
    ids: list[str] = []
    values: list[np.ndarray | None] = []
    for table, piece in _opened(storage, shards, pieces, kind, scratch):
        part = table.slice(piece.start, len(piece))
        ids += part.column("clip_id").to_pylist()
        column = part.column(kind)
        for row in range(part.num_rows):
            value = feature_values(column, row, dim)
            values.append(None if value is None else value.copy())
    return ids, values


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same rows in fewer pieces; empty ones are gone."""
    whole: list[Piece] = []
    for piece in pieces:
        if whole and (whole[-1].shard, whole[-1].stop) == (piece.shard, piece.start):
            whole[-1] = Piece(piece.shard, whole[-1].start, piece.stop)
        elif len(piece):
            whole.append(piece)
    return whole


def _opened(
    storage: Storage,
    shards: Mapping[str, ShardEntry],
    pieces: Iterable[Piece],
    kind: str,
    scratch: Path | None,
) -> Iterator[tuple[pa.Table, Piece]]:
    with ExitStack() as stack:
        held, table = "", None
        for piece in pieces:
            if piece.shard != held:
                stack.close()
                table = stack.enter_context(
                    open_shard(storage, shards[piece.shard], kind, scratch, verify=True)
                )
                held = piece.shard
            yield table, piece
