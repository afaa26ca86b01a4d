"""Held-out clips with pictures, to make a video of while a training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ifmdm_core.training.items import SAMPLES_PER_FRAME, ClipFeatures
from ifmdm_core.training.motion_look import ShownClip
from pipelines.dataset.batch_items import ClipAt, Features, FramesAt
from pipelines.dataset.pairs import read_frames
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.selection import COLUMNS


@dataclass(frozen=True)
class Shown:
    """`ShownClip` of every run of frames that has both features; pictures are resized to `size`."""

    size: int
    longest: int = 125
    shortest: int = 50

    def check(self, reader: MotionReader) -> None:
        Features().check(reader)

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[_ShownAt]:
        table = reader.clips_of(stack, shard)
        for item in Features(self.longest, self.shortest).open(reader, stack, shard):
            yield _ShownAt(item.at, table["video"], table["audio"], self.size)


@dataclass(frozen=True, eq=False)
class _ShownAt(FramesAt):
    videos: pa.ChunkedArray
    sounds: pa.ChunkedArray
    size: int

    def take(self, rng: np.random.Generator) -> Callable[[], ShownClip]:
        at, features = self.at, self.features()
        video, sound = self.videos[at.row].as_py(), self.sounds[at.row].as_py()
        return partial(_read, features, video, sound, (at.first, at.last), at.shift, self.size)


def _read(
    features: ClipFeatures, video: bytes, sound: bytes, span: tuple[int, int], shift: int, size: int
) -> ShownClip:
    from ifmdm_core.media.clip_codec import decode_sound

    frames = read_frames(video, range(*span), size, features.clip_id)
    start, stop = ((end + shift) * SAMPLES_PER_FRAME for end in span)
    samples = decode_sound(sound)[start:stop]
    return ShownClip(features, frames, np.pad(samples, (0, stop - start - len(samples))))


@dataclass(frozen=True)
class Driving:
    """The first frames of every clip, uint8 [n, size, size, 3]."""

    size: int
    longest: int = 75

    def check(self, reader: MotionReader) -> None:
        """Every dataset has pictures."""

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[_DrivingAt]:
        table = reader.clips_of(stack, shard)
        for k, row in reader.rows(table.select(COLUMNS)):
            yield _DrivingAt(row, table["video"], k, self.longest, self.size)


@dataclass(frozen=True, eq=False)
class _DrivingAt(ClipAt):
    longest: int
    size: int

    @property
    def frames(self) -> int:
        return min(self.longest, super().frames)

    def take(self, rng: np.random.Generator) -> Callable[[], NDArray[np.uint8]]:
        return partial(
            read_frames, self.videos[self.row].as_py(), range(self.frames), self.size, self.clip_id
        )
