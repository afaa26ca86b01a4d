"""Steps of a training read from a dataset: the `BatchSource` of every stage.

    source = StepBatches(MotionReader(Dataset.open("s3://bucket/set"), split="train"), Features(), size=256, seed=0)

Epoch after epoch gives an endless sequence of items; item k is number k mod size of step k div size, so a step may
span the end of an epoch. All processes go through the same sequence and read only their own numbers; where the
sequence stands (the cursor) is therefore the same everywhere and says nothing about how many processes there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ifmdm_core.errors import NotFound
from ifmdm_core.training.list_source import check_size
from ifmdm_core.training.task import Share
from ifmdm_core.training.world import World
from pipelines.dataset.batch_items import ItemAt, ItemKind
from pipelines.dataset.order import Position, generator, groups_of, walk
from pipelines.dataset.reader import MotionReader

AHEAD = 2
"""Steps whose items are being decoded while an earlier one is used."""


class StepBatches:
    """Reads items of one kind from a dataset, step by step.

    Args:
        reader: which clips count.
        kind: what is read of a clip.
        size: samples of a step over all processes.
        seed: of the order and of what is drawn from a clip.
        threads: that decode.
    """

    def __init__(
        self, reader: MotionReader, kind: ItemKind, size: int, seed: int = 0, threads: int = 2
    ) -> None:
        """Raises what `kind.check` raises, and NotFound when the dataset has no shards."""
        kind.check(reader)
        if not reader.shards:
            raise NotFound(f"{reader.dataset.storage.root} has no clips", fix="run ifmdm data clips first")
        self.reader, self.kind, self.size, self.seed, self.threads = reader, kind, size, seed, threads

    def shares(self, step: int, cursor: Mapping[str, int] | None, world: World) -> Iterator[Share]:
        """This process's samples of steps `step`, `step + 1`, ... without end.

        Raises:
            NotFound: a whole epoch without an item. BadInput: a clip is damaged, or fewer samples than processes.
        """
        check_size(self.size, world)
        with ThreadPoolExecutor(self.threads, "read") as pool:
            started: deque[_Started] = deque()
            for one in self._start(step, cursor, world, pool):
                started.append(one)
                if len(started) > AHEAD:
                    yield started.popleft().share(self.size)

    def _start(
        self, step: int, cursor: Mapping[str, int] | None, world: World, pool: ThreadPoolExecutor
    ) -> Iterator[_Started]:
        """Steps whose items have been taken from their shards and are being decoded."""
        jobs: list[tuple[int, str, Future[Any]]] = []
        number = 0
        for at, after in self._items(cursor):
            if number % world.size == world.rank:
                make = at.take(generator(self.seed, "item", step, number))
                jobs.append((number, at.clip_id, pool.submit(make)))
            number += 1
            if number == self.size:
                yield _Started(step, jobs, after)
                step, jobs, number = step + 1, [], 0

    def _items(self, cursor: Mapping[str, int] | None) -> Iterator[tuple[ItemAt, dict[str, int]]]:
        """The endless sequence from a cursor on, each item with the cursor behind it."""
        at = dict(cursor) if cursor else {"epoch": 0, "group": 0, "index": 0, "before": 0}
        epoch, start = at.pop("epoch"), Position(**at)
        while True:
            found = start != Position()
            groups = groups_of(list(self.reader.shards), self.seed, epoch, self.reader.buffer)
            with _Ahead(groups, self._open_group, early=self._remote) as ahead:
                walked = walk(groups, ahead.open, seed=self.seed, epoch=epoch, start=start, rank=0, world=1)
                for item, after in walked:
                    found = True
                    yield item, {"epoch": epoch, **vars(after)}
            if not found:
                raise NotFound(
                    f"{self.reader.dataset.storage.root} has nothing to train on: no clip "
                    f"{f'of split {self.reader.split!r} ' if self.reader.split else ''}has all that is needed",
                    fix="look at ifmdm data stats, and at the selection",
                )
            epoch, start = epoch + 1, Position()

    @property
    def _remote(self) -> bool:
        first = next(iter(self.reader.shards.values()))
        return self.reader.dataset.storage.local_path(first.key) is None

    @contextmanager
    def _open_group(self, shards: Sequence[str]) -> Iterator[list[ItemAt]]:
        with ExitStack() as stack:
            yield [item for shard in shards for item in self.kind.open(self.reader, stack, shard)]


@dataclass(frozen=True)
class _Started:
    """A step whose items are being decoded."""

    step: int
    jobs: Sequence[tuple[int, str, Future[Any]]]
    cursor: dict[str, int]

    def share(self, size: int) -> Share:
        items = [(number, future.result()) for number, _, future in self.jobs]
        return Share(self.step, size, items, [clip for _, clip, _ in self.jobs], self.cursor)


class _Ahead:
    """Opens groups of shards; with `early`, the next one is fetched from its bucket while one is in use."""

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        open_group: Callable[[Sequence[str]], AbstractContextManager[list[ItemAt]]],
        early: bool,
    ) -> None:
        self._open, self._early = open_group, early
        self._next = {tuple(a): tuple(b) for a, b in pairwise(groups)}
        self._coming: dict[tuple[str, ...], Future[tuple[ExitStack, list[ItemAt]]]] = {}
        self._pool = ThreadPoolExecutor(1, "fetch")

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for future in self._coming.values():
            if not future.cancelled() and future.exception() is None:
                future.result()[0].close()

    @contextmanager
    def open(self, shards: Sequence[str]) -> Iterator[list[ItemAt]]:
        """The items of a group."""
        own = tuple(shards)
        coming = self._coming.pop(own, None)
        stack, items = coming.result() if coming else self._enter(own)
        following = self._next.get(own)
        if self._early and following:
            self._coming[following] = self._pool.submit(self._enter, following)
        with stack:
            yield items

    def _enter(self, shards: tuple[str, ...]) -> tuple[ExitStack, list[ItemAt]]:
        stack = ExitStack()
        return stack, stack.enter_context(self._open(shards))


def sample_items(reader: MotionReader, kind: ItemKind, most: int, seed: int = 0) -> list[Any]:
    """At most `most` items, the same for the same dataset and seed; spread over eight groups of shards if they can be.

    Raises what `kind.check` raises.
    """
    kind.check(reader)
    groups = groups_of(list(reader.shards), seed, 0, reader.buffer)
    share = -(-most // max(1, min(8, len(groups))))
    found: list[Any] = []
    for first, last in ((0, share), (share, most)):  # a second round where some groups had too few
        for group in groups:
            if len(found) >= most:
                return found
            with ExitStack() as stack:
                items = [item for shard in group for item in kind.open(reader, stack, shard)]
                order = generator(seed, "sample", *group).permutation(len(items))[first:last]
                for k in order[: most - len(found)]:
                    found.append(items[k].take(generator(seed, "sample", items[k].clip_id))())
    return found
