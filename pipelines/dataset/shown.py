"""Held-out clips with pictures, sound and features: what a training shows videos of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import pyarrow as pa

from ifmdm_core.media.clip_codec import decode_clip, decode_sound
from ifmdm_core.training.items import SAMPLES_PER_FRAME, ClipFeatures
from ifmdm_core.training.motion_look import ShownClip
from pipelines.dataset.batch_items import ItemAt
from pipelines.dataset.order import Position
from pipelines.dataset.reader import MotionReader
from pipelines.dataset.shard_file import open_shard
from pipelines.dataset.windows import WindowAt


@dataclass(frozen=True)
class Shown:
    """`ShownClip` of the first frames of every clip that has both features; a kind for `batches.sample_items`."""

    size: int
    """Side of the pictures, pixels."""
    longest: int = 125
    """Frames."""
    shortest: int = 25

    def check(self, reader: MotionReader) -> None:
        reader.features("speech")
        reader.features("motion")

    def open(self, reader: MotionReader, stack: ExitStack, shard: str) -> Iterator[ItemAt]:
        speech, motion = reader.features("speech"), reader.features("motion")
        entry = reader.shards[shard]
        table = stack.enter_context(
            open_shard(reader.dataset.storage, entry, "clips", reader.scratch, reader.opened)
        )
        seen: set[int] = set()
        for at in reader.windows_of(stack, shard, speech, motion, self.longest, self.longest):
            if at.row not in seen and at.last - at.first >= self.shortest:
                seen.add(at.row)
                yield _ShownAt(at, table, self.size)


@dataclass(frozen=True)
class _ShownAt:
    at: WindowAt
    table: pa.Table
    size: int

    @property
    def clip_id(self) -> str:
        return str(self.at.clip["clip_id"])

    @property
    def frames(self) -> int:
        return self.at.last - self.at.first

    def take(self, rng: np.random.Generator) -> Callable[[], ShownClip]:
        window = self.at.read(Position())
        features = ClipFeatures(window.clip_id, window.identity, window.motion, window.speech)
        video, audio = (self.table[name][self.at.row].as_py() for name in ("video", "audio"))
        rows = range(self.at.first, self.at.last)
        return partial(_read, features, video, audio, rows, self.at.shift, self.size)


def _read(
    features: ClipFeatures, video: bytes, audio: bytes, rows: range, shift: int, size: int
) -> ShownClip:
    pictures = decode_clip(video, rows, name=f"clip {features.clip_id}")
    method = cv2.INTER_AREA if size < pictures.shape[1] else cv2.INTER_CUBIC
    frames = np.stack([cv2.resize(picture, (size, size), interpolation=method) for picture in pictures])
    start, stop = ((row + shift) * SAMPLES_PER_FRAME for row in (rows.start, rows.stop))
    samples = decode_sound(audio)[start:stop]
    return ShownClip(features, frames, np.pad(samples, (0, stop - start - len(samples))))
