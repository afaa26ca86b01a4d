"""The order in which a reader meets a dataset: a function of seed and epoch, kept by a position, shared by ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class Position:
    """Where to go on in an epoch; three whole numbers for a checkpoint. `Position()` is the beginning."""

    group: int = 0
    """Group of shards that are open together."""
    index: int = 0
    """Next item of that group."""
    before: int = 0
    """Items of the groups before it."""


def generator(seed: int, *what: int | str) -> np.random.Generator:
    """Random numbers that depend on the arguments alone, not on what was drawn before."""
    text = "/".join(map(str, (seed, *what))).encode()
    return np.random.default_rng(list(hashlib.sha256(text).digest()))


def groups_of(shards: Sequence[str], seed: int, epoch: int, buffer: int) -> list[list[str]]:
    """The shards in the epoch's order, in groups of `buffer`; each shard is in one."""
    order = generator(seed, epoch, "shards").permutation(len(shards))
    shuffled = [sorted(shards)[k] for k in order]
    return [shuffled[k : k + buffer] for k in range(0, len(shuffled), buffer)]


def walk(
    groups: Sequence[Sequence[str]],
    open_group: Callable[[Sequence[str]], AbstractContextManager[Sequence[Item]]],
    *,
    seed: int,
    epoch: int,
    start: Position,
    rank: int,
    world: int,
) -> Iterator[tuple[Item, Position]]:
    """Items of every group in a shuffled order, each with the position after it.

    Item number k of the epoch goes to rank k mod `world`, so all ranks together see each once, whatever `world` is;
    groups before `start` are not opened.

    Raises:
        ValueError: rank is not in [0, world).
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world}")
    before = start.before
    for group in range(start.group, len(groups)):
        with open_group(groups[group]) as items:
            order = generator(seed, epoch, "items", group).permutation(len(items))
            for index in range(start.index if group == start.group else 0, len(items)):
                if (before + index) % world == rank:
                    yield items[order[index]], Position(group, index + 1, before)
            before += len(items)
