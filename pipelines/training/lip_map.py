"""The map from motion to lips that a training uses: a bundle's, or one fitted on pictures of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ifmdm_core.bundle import Bundle
from ifmdm_core.errors import Conflict
from pipelines.dataset.batches import sample_items
from pipelines.dataset.pairs import read_frames
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import COLUMNS
from pipelines.dataset.shard_file import check_alignment, feature_values, open_shard
from pipelines.training.run import DataRecord

CLIPS, SIZE, STRIDE, LONGEST = 96, 128, 3, 90
"""Clips that a map is fitted on, side of their pictures, every how manyth frame, of how many."""

Array = NDArray[np.float32]


def lip_map_of(bundle: Bundle) -> tuple[Array, Array]:
    """Map [L, 20] and bias [L] of a bundle's motion generator."""
    generator = bundle.motion()
    return generator.lip_map.numpy(), generator.lip_bias.numpy()


def fitted_lip_map(reader: MotionReader, dims: int, seed: int) -> tuple[Array, Array]:
    """Map [dims, 20] and bias [dims] from what our own face net sees in some clips (about 20 ms a frame).

    Raises:
        BadInput: too few faces are seen.
    """
    from ifmdm_core.training.lip_probe import probe_lips

    return probe_lips(sample_items(reader, Filmed(), CLIPS, seed), dims)


def require_same_motion_encoder(bundle: Bundle, name: str, data: DataRecord) -> None:
    """Raises Conflict when the motion features were made by another encoder than the bundle's."""
    if bundle.record.encoder != data.motion_encoder:
        raise Conflict(
            f"reference: the motion encoder of {name} is {bundle.record.encoder}, motion/{data.motion} was made by "
            f"{data.motion_encoder}",
            fix="give the bundle that made the features, or other features with data.motion",
        )


@dataclass(frozen=True)
class Filmed:
    """Some frames [n, SIZE, SIZE, 3] of every clip with the motion [n, 20] in them."""

    def check(self, reader: MotionReader) -> None:
        reader.features("motion")

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[_FilmedAt]:
        motion, clips = reader.features("motion"), reader.shards[shard]
        storage, scratch, opened = reader.dataset.storage, reader.scratch, reader.opened
        table = stack.enter_context(open_shard(storage, clips, "clips", scratch, opened))
        entry = motion.shards[shard]
        moves = stack.enter_context(open_shard(storage, entry, "motion", scratch, opened))
        check_alignment(moves, table, clips.inputs, entry.key)
        for k, row in reader.rows(table.select(COLUMNS)):
            if moves["motion"][k].is_valid:
                yield _FilmedAt(row, table["video"], moves["motion"], k, motion.dim)


@dataclass(frozen=True, eq=False)
class _FilmedAt:
    clip: dict[str, Any]
    videos: pa.ChunkedArray
    motion: pa.ChunkedArray
    row: int
    dim: int

    @property
    def clip_id(self) -> str:
        return str(self.clip["clip_id"])

    @property
    def frames(self) -> int:
        return len(self._rows)

    @property
    def _rows(self) -> range:
        return range(0, min(LONGEST, self.clip["num_frames"]), STRIDE)

    def take(self, rng: np.random.Generator) -> Callable[[], tuple[NDArray[np.uint8], Array]]:
        motion = feature_values(self.motion, self.row, self.dim)
        assert motion is not None
        video, rows = self.videos[self.row].as_py(), self._rows
        return partial(_read, video, rows, self.clip_id, motion[list(rows)].copy())


def _read(video: bytes, rows: range, clip_id: str, motion: Array) -> tuple[NDArray[np.uint8], Array]:
    return read_frames(video, rows, SIZE, clip_id), motion
