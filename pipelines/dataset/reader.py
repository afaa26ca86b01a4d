"""Training reads here: aligned windows of motion and speech, and pairs of frames, without Ray.

    reader = MotionReader(Dataset.open("s3://bucket/set"), selection="good", split="train")
    for window in reader.windows(50, seed=0, epoch=3):
        ...  # window.motion [50, 20], window.speech [50, dim]

Few shards are open at a time and each is opened once an epoch. What comes in which order depends on (seed, epoch)
and the manifest that the `Dataset` holds, on nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ifmdm_core.errors import Conflict
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet
from pipelines.dataset.order import Position, generator, groups_of, walk
from pipelines.dataset.pairs import FramePair, read_pair
from pipelines.dataset.selection import COLUMNS, Selection, load_selection
from pipelines.dataset.shard_file import check_alignment, open_shard
from pipelines.dataset.windows import Window, WindowAt, cut_windows


class MotionReader:
    """Reads one generation of a dataset.

    Args:
        dataset: a handle; its manifest is what is read, also when the dataset grows meanwhile.
        speech, motion: (beginnings of) digests of feature sets; None: the newest.
        selection: which clips count, by name or as it is; None: all.
        split: only clips of this split: the selection's, or without one the split that the source list gave.
        generation: of the clips; None: the selection's, else the current one.
        buffer: shards that are open, and shuffled, together.
        scratch: folder for shards of a bucket while they are open.

    Raises:
        NotFound: no such selection or generation. Conflict: the selection is of another generation.
    """

    def __init__(
        self,
        dataset: Dataset,
        speech: str | None = None,
        motion: str | None = None,
        selection: str | Selection | None = None,
        split: str | None = None,
        *,
        generation: str | None = None,
        buffer: int = 4,
        scratch: Path | None = None,
    ) -> None:
        self.dataset = dataset
        self.selection = load_selection(dataset, selection) if isinstance(selection, str) else selection
        chosen = self.selection.generation if self.selection and generation is None else generation
        self.generation, made = dataset.generation(chosen)
        self.shards = made.shards
        """The clip shards, by name."""
        if self.selection and self.selection.generation != self.generation:
            raise Conflict(
                f"selection {self.selection.name!r} is of generation {self.selection.generation}, "
                f"not {self.generation}",
                fix="make one for it with ifmdm data select --generation",
            )
        self.split = split
        self.buffer, self.scratch = buffer, scratch
        self._speech, self._motion = speech, motion
        self.opened: Counter[str] = Counter()
        """Shards opened so far, by kind."""

    def windows(
        self,
        length: int,
        *,
        seed: int,
        epoch: int,
        stride: int | None = None,
        start: Position = Position(),  # noqa: B008 (it is frozen)
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Window]:
        """Every window of every clip that has both features once, this rank's part of them.

        Windows begin every `stride` frames (default `length`) and the last ends with the clip, so each frame is in
        one; a clip shorter than `length` is one window of fewer frames.

        Raises:
            NotFound: no such features. Conflict: a shard lacks features, or they are of another version of it.
        """
        stride = length if stride is None else stride
        if not 0 < stride <= length:
            raise ValueError(f"stride {stride} of windows of {length} frames")
        speech, motion = self.features("speech"), self.features("motion")

        @contextmanager
        def open_group(shards: Sequence[str]) -> Iterator[list[WindowAt]]:
            with ExitStack() as stack:
                found: list[WindowAt] = []
                for shard in shards:
                    found += self.windows_of(stack, shard, speech, motion, length, stride)
                yield found

        groups = groups_of(list(self.shards), seed, epoch, self.buffer)
        for at, after in walk(
            groups, open_group, seed=seed, epoch=epoch, start=start, rank=rank, world=world
        ):
            yield at.read(after)

    def pairs(
        self,
        *,
        seed: int,
        epoch: int,
        size: int,
        start: Position = Position(),  # noqa: B008 (it is frozen)
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[FramePair]:
        """Two different frames of every clip, drawn by (seed, epoch, clip), resized to `size` pixels.

        Raises:
            BadInput: a clip's video is damaged.
        """

        @contextmanager
        def open_group(shards: Sequence[str]) -> Iterator[list[tuple[pa.Table, int, dict[str, Any]]]]:
            with ExitStack() as stack:
                clips = []
                for shard in shards:
                    table = self.clips_of(stack, shard)
                    clips += [(table, k, row) for k, row in self.rows(table.select(COLUMNS))]
                yield clips

        groups = groups_of(list(self.shards), seed, epoch, self.buffer)
        for (table, k, row), after in walk(
            groups, open_group, seed=seed, epoch=epoch, start=start, rank=rank, world=world
        ):
            draw = generator(seed, epoch, row["clip_id"])
            first, second = (int(frame) for frame in draw.choice(row["num_frames"], 2, replace=False))
            frames = read_pair(table["video"][k].as_py(), (first, second), size, row["clip_id"])
            yield FramePair(row["clip_id"], row["identity"], (first, second), frames, after)

    def windows_of(
        self,
        stack: ExitStack,
        shard: str,
        speech: FeatureSet,
        motion: FeatureSet,
        length: int,
        stride: int,
    ) -> Iterator[WindowAt]:
        """The windows of a shard that count, not read yet; `stack` keeps its files open."""
        self.opened["clips"] += 1
        rows = read_columns(self.dataset, shard, COLUMNS, self.generation)
        columns = [self.column_of(stack, shard, features, rows) for features in (motion, speech)]
        for k, row in self.rows(rows):
            offset = self.selection.offset_of(row["source"]) if self.selection else None
            shift = round((offset or 0.0) * self.fps)
            if not (columns[0][k].is_valid and columns[1][k].is_valid):
                continue
            for first, last in cut_windows(row["num_frames"], shift, length, stride):
                yield WindowAt(columns[0], columns[1], k, row, first, last, shift, motion.dim, speech.dim)

    def clips_of(self, stack: ExitStack, shard: str) -> pa.Table:
        """A shard's clips, all columns; `stack` keeps its file open."""
        return stack.enter_context(
            open_shard(self.dataset.storage, self.shards[shard], "clips", self.scratch, self.opened)
        )

    def column_of(
        self, stack: ExitStack, shard: str, features: FeatureSet, clips: pa.Table
    ) -> pa.ChunkedArray:
        """A shard's features, a row for each of its clips; `stack` keeps their file open.

        Raises:
            Conflict: they are of other clips.
        """
        entry = features.shards[shard]
        table = stack.enter_context(
            open_shard(self.dataset.storage, entry, features.kind, self.scratch, self.opened)
        )
        check_alignment(table, clips, self.shards[shard].inputs, entry.key)
        return table.column(features.kind)

    def rows(self, table: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows that count, with their number."""
        for k, row in enumerate(table.to_pylist()):
            if self.selection and self.selection.refusal(row):
                continue
            split = self.selection.split_of(row) if self.selection else row["split"]
            if self.split is None or split == self.split:
                yield k, row

    def features(self, kind: Literal["speech", "motion"]) -> FeatureSet:
        """The feature set that is read.

        Raises:
            NotFound: none such. Conflict: it does not cover all shards.
        """
        wanted = {"speech": self._speech, "motion": self._motion}[kind]
        found = self.dataset.features(kind, wanted, self.generation)
        missing = sorted(set(self.shards) - set(found.shards))
        if missing:
            raise Conflict(
                f"{found.name} lacks {len(missing)} of {len(self.shards)} shards, first {missing[0]}",
                fix="run ifmdm data features again",
            )
        return found

    @cached_property
    def fps(self) -> int:
        """Frames a second of the clips."""
        return self.dataset.plan(self.generation).parameters.fps
