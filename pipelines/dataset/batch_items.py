"""What training can read of a clip: all its features, a pair of its frames, or its sound with its lips.

Each kind lists the items of a shard without reading them. `take` copies an item's bytes while the shard is open and
returns what remains to be done, which may run in another thread after the shard has been closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ifmdm_core.errors import Conflict, Unsupported
from ifmdm_core.training.items import SAMPLES_PER_FRAME, ClipFeatures, FramePair, SpokenClip
from pipelines.dataset.order import Position
from pipelines.dataset.pairs import read_pair
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import COLUMNS
from pipelines.dataset.shard_file import feature_values
from pipelines.dataset.windows import WindowAt, cut_windows

LONGEST = 512
"""Most frames of an item; longer clips give several."""
SHORTEST = 16
"""Least frames of an item: shorter ones hold less than a window."""


class ItemAt(Protocol):
    """An item that is not read yet."""

    @property
    def clip_id(self) -> str: ...

    @property
    def frames(self) -> int:
        """Frames that it is chosen from."""
        ...

    def take(self, rng: np.random.Generator) -> Callable[[], Any]:
        """Copy what is needed of the open shard; the result makes the item."""
        ...


class ItemKind(Protocol):
    """Which items a shard has."""

    def check(self, reader: MotionReader) -> None:
        """Raises what makes these items unreadable: missing features, another frame rate."""
        ...

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[ItemAt]:
        """The items of a shard in its rows' order; `stack` keeps its files open."""
        ...


@dataclass(frozen=True)
class Features:
    """`ClipFeatures` of every clip that has both features; the selection's audio offset is taken out."""

    longest: int = LONGEST
    shortest: int = SHORTEST

    def check(self, reader: MotionReader) -> None:
        reader.features("speech")
        reader.features("motion")

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[_FeaturesAt]:
        speech, motion = reader.features("speech"), reader.features("motion")
        for at in reader.windows_of(stack, shard, speech, motion, self.longest, self.longest):
            if at.last - at.first >= self.shortest:
                yield _FeaturesAt(at)


@dataclass(frozen=True, eq=False)
class FramesAt:
    """Frames with both features: of a clip in an open shard."""

    at: WindowAt

    @property
    def clip_id(self) -> str:
        return str(self.at.clip["clip_id"])

    @property
    def frames(self) -> int:
        return self.at.last - self.at.first

    def features(self) -> ClipFeatures:
        window = self.at.read(Position())
        return ClipFeatures(window.clip_id, window.identity, window.motion, window.speech)


class _FeaturesAt(FramesAt):
    def take(self, rng: np.random.Generator) -> Callable[[], ClipFeatures]:
        item = self.features()
        return lambda: item


@dataclass(frozen=True, eq=False)
class ClipAt:
    """A clip with its pictures: a row of an open shard."""

    clip: dict[str, Any]
    videos: pa.ChunkedArray
    row: int

    @property
    def clip_id(self) -> str:
        return str(self.clip["clip_id"])

    @property
    def frames(self) -> int:
        return int(self.clip["num_frames"])


@dataclass(frozen=True)
class Pairs:
    """`FramePair` of every clip: two different frames, drawn anew each time, resized to `size` pixels."""

    size: int

    def check(self, reader: MotionReader) -> None:
        """Every dataset has pictures."""

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[ItemAt]:
        table = reader.clips_of(stack, shard)
        videos = table["video"]
        for k, row in reader.rows(table.select(COLUMNS)):
            if row["num_frames"] >= 2:
                yield _PairAt(row, videos, k, self.size)


@dataclass(frozen=True, eq=False)
class _PairAt(ClipAt):
    size: int

    def take(self, rng: np.random.Generator) -> Callable[[], FramePair]:
        first, second = (int(frame) for frame in rng.choice(self.frames, 2, replace=False))
        return partial(
            _read_pair, self.clip_id, self.clip["identity"], self.videos[self.row].as_py(), (first, second), self.size
        )  # fmt: skip


def _read_pair(
    clip_id: str, identity: str | None, video: bytes, rows: tuple[int, int], size: int
) -> FramePair:
    return FramePair(clip_id, identity, read_pair(video, rows, size, clip_id))


@dataclass(frozen=True, eq=False)
class Spoken:
    """`SpokenClip` of every clip with sound and motion: its lips are what `lip_map` sees in the motion."""

    lip_map: NDArray[np.float32]
    """[L, 20]"""
    longest: int = LONGEST
    shortest: int = SHORTEST

    def check(self, reader: MotionReader) -> None:
        if reader.fps != 25:
            raise Unsupported(
                f"the clips of generation {reader.generation} have {reader.fps} frames a second",
                fix="the speech encoder learns at 25: cut clips with fps 25",
            )
        motion = reader.features("motion")
        if motion.dim != self.lip_map.shape[1]:
            raise Conflict(
                f"{motion.name} has {motion.dim} numbers a frame, the lip map reads {self.lip_map.shape[1]}",
                fix="use a lip map of the encoder that made the motion",
            )

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[ItemAt]:
        motion = reader.features("motion")
        table = reader.clips_of(stack, shard)
        sounds, vectors = table["audio"], reader.column_of(stack, shard, motion, table)
        for k, row in reader.rows(table.select(COLUMNS)):
            if not (sounds[k].is_valid and vectors[k].is_valid):
                continue
            offset = reader.selection.offset_of(row["source"]) if reader.selection else None
            late = round((offset or 0.0) * 25 * SAMPLES_PER_FRAME)
            # Whole frames whose sound exists on both sides of a shift by a part of a frame.
            edge = -(-abs(late) // SAMPLES_PER_FRAME) * (1 if late > 0 else -1)
            for first, last in cut_windows(row["num_frames"], edge, self.longest, self.longest):
                if last - first >= self.shortest:
                    yield _SpokenAt(sounds, vectors, k, row, first, last, late, self.lip_map)


@dataclass(frozen=True, eq=False)
class _SpokenAt:
    sounds: pa.ChunkedArray
    motion: pa.ChunkedArray
    row: int
    clip: dict[str, Any]
    first: int
    last: int
    late: int
    lip_map: NDArray[np.float32]

    @property
    def clip_id(self) -> str:
        return str(self.clip["clip_id"])

    @property
    def frames(self) -> int:
        return self.last - self.first

    def take(self, rng: np.random.Generator) -> Callable[[], SpokenClip]:
        motion = feature_values(self.motion, self.row, self.lip_map.shape[1])
        assert motion is not None
        lips = (motion[self.first : self.last] @ self.lip_map.T).astype(np.float32)
        start = self.first * SAMPLES_PER_FRAME + self.late
        stop = self.last * SAMPLES_PER_FRAME + self.late
        return partial(_read_spoken, self.clip_id, self.sounds[self.row].as_py(), start, stop, lips)


def _read_spoken(clip_id: str, sound: bytes, start: int, stop: int, lips: NDArray[np.float32]) -> SpokenClip:
    from ifmdm_core.media.clip_codec import decode_sound

    samples = decode_sound(sound)[max(0, start) : stop]
    return SpokenClip(clip_id, np.pad(samples, (0, stop - start - len(samples))), lips)
