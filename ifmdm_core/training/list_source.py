"""A batch source over items in memory: for tests, benchmarks, and machines with arrays instead of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from ifmdm_core.errors import BadInput
from ifmdm_core.training.task import Share
from ifmdm_core.training.world import World


class Named(Protocol):
    """Every item of `items` says where it comes from."""

    @property
    def clip_id(self) -> str: ...


class ListSource:
    """Goes through a list again and again, shuffled by (seed, epoch); a step may span the end of an epoch."""

    def __init__(self, items: Sequence[Named], size: int, seed: int = 0) -> None:
        """`size` is the number of samples of a step over all processes.

        Raises BadInput when there are no items.
        """
        if not items:
            raise BadInput("there is nothing to train on: the list of items is empty", fix="give clips")
        self.items, self.size, self.seed = items, size, seed

    def shares(self, step: int, cursor: Mapping[str, int] | None, world: World) -> Iterator[Share]:
        """This process's samples of steps `step`, `step + 1`, ..., from `cursor` (epoch, index) on."""
        check_size(self.size, world)
        epoch, index = (cursor["epoch"], cursor["index"]) if cursor else (0, 0)
        order = self._order(epoch)
        while True:
            chosen: list[tuple[int, Named]] = []
            for number in range(self.size):
                if index == len(order):
                    epoch, index = epoch + 1, 0
                    order = self._order(epoch)
                if number % world.size == world.rank:
                    chosen.append((number, self.items[int(order[index])]))
                index += 1
            clips = [item.clip_id for _, item in chosen]
            yield Share(step, self.size, chosen, clips, {"epoch": epoch, "index": index})
            step += 1

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.items))


def check_size(size: int, world: World) -> None:
    """Raises BadInput when a step has fewer samples than there are processes."""
    if size < world.size:
        raise BadInput(
            f"a step of {size} samples cannot be shared by {world.size} processes",
            fix="raise the batch size or train on fewer workers",
        )
