"""Held-out clips with pictures and sound, to make a video of while a training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from ifmdm_core.training.items import SAMPLES_PER_FRAME, ClipFeatures
from ifmdm_core.training.motion_look import ShownClip
from pipelines.dataset.order import Position
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.shard_file import open_shard
from pipelines.dataset.windows import WindowAt


@dataclass(frozen=True)
class Shown:
    """`ShownClip` of every run of frames that has both features; pictures are resized to `size`."""

    size: int
    longest: int = 125
    shortest: int = 50

    def check(self, reader: MotionReader) -> None:
        reader.features("speech")
        reader.features("motion")

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[_ShownAt]:
        table = stack.enter_context(
            open_shard(reader.dataset.storage, reader.shards[shard], "clips", reader.scratch, reader.opened)
        )
        speech, motion = reader.features("speech"), reader.features("motion")
        for at in reader.windows_of(stack, shard, speech, motion, self.longest, self.longest):
            if at.last - at.first >= self.shortest:
                yield _ShownAt(at, table["video"], table["audio"], self.size)


@dataclass(frozen=True, eq=False)
class _ShownAt:
    at: WindowAt
    videos: pa.ChunkedArray
    sounds: pa.ChunkedArray
    size: int

    @property
    def clip_id(self) -> str:
        return str(self.at.clip["clip_id"])

    @property
    def frames(self) -> int:
        return self.at.last - self.at.first

    def take(self, rng: np.random.Generator) -> Callable[[], ShownClip]:
        at = self.at
        window = at.read(Position())
        features = ClipFeatures(window.clip_id, window.identity, window.motion, window.speech)
        video, sound = self.videos[at.row].as_py(), self.sounds[at.row].as_py()
        return partial(_read, features, video, sound, (at.first, at.last), at.shift, self.size)


def _read(
    features: ClipFeatures, video: bytes, sound: bytes, span: tuple[int, int], shift: int, size: int
) -> ShownClip:
    import cv2

    from ifmdm_core.media.clip_codec import decode_clip, decode_sound

    frames = decode_clip(video, range(*span), name=f"clip {features.clip_id}")
    method = cv2.INTER_AREA if size < frames.shape[1] else cv2.INTER_CUBIC
    resized = np.stack([cv2.resize(frame, (size, size), interpolation=method) for frame in frames])
    start, stop = ((end + shift) * SAMPLES_PER_FRAME for end in span)
    samples = decode_sound(sound)[start:stop]
    return ShownClip(features, resized, np.pad(samples, (0, stop - start - len(samples))))
