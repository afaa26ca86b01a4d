"""Some frames of each clip with their motion vectors: what a lip map is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.dataset.batch_items import ClipAt, ItemAt
from pipelines.dataset.pairs import read_frames
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import COLUMNS
from pipelines.dataset.shard_file import feature_values

MotionAndFrames = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True)
class MotionFrames:
    """Motion [n, 20] and pictures uint8 [n, size, size, 3] of up to `most` frames of every clip; a kind of item."""

    size: int = 256
    most: int = 16

    def check(self, reader: MotionReader) -> None:
        reader.features("motion")

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[ItemAt]:
        motion = reader.features("motion")
        table = reader.clips_of(stack, shard)
        vectors = reader.column_of(stack, shard, motion, table)
        for k, row in reader.rows(table.select(COLUMNS)):
            if vectors[k].is_valid:
                yield _MotionFramesAt(row, table["video"], k, vectors, motion.dim, self)


@dataclass(frozen=True, eq=False)
class _MotionFramesAt(ClipAt):
    motion: pa.ChunkedArray
    dim: int
    kind: MotionFrames

    def take(self, rng: np.random.Generator) -> Callable[[], MotionAndFrames]:
        rows = np.unique(np.linspace(0, self.frames - 1, min(self.kind.most, self.frames)).astype(int))
        motion = feature_values(self.motion, self.row, self.dim)
        assert motion is not None
        video = self.videos[self.row].as_py()
        return partial(_read, motion[rows], video, rows, self.kind.size, self.clip_id)


def _read(
    motion: NDArray[np.float32], video: bytes, rows: NDArray[np.int64], size: int, clip_id: str
) -> MotionAndFrames:
    return motion, read_frames(video, [int(row) for row in rows], size, clip_id)
