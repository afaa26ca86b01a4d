"""Rows that come in any portions, leaving in portions of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class Chunks:
    """Takes rows [n, D] and gives full chunks [size, D] as soon as they are there; `rest` has what is left."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held: Tensor | None = None

    def push(self, rows: Tensor) -> Iterator[Tensor]:
        """The chunks that are full with these rows; take all of them before the next push."""
        self._held = rows if self._held is None else torch.cat([self._held, rows])
        while len(self._held) >= self.size:
            chunk, self._held = self._held[: self.size], self._held[self.size :]
            yield chunk

    def rest(self) -> Iterator[Tensor]:
        """The last chunk, shorter than the others; nothing where all were full."""
        if self._held is not None and len(self._held):
            yield self._held


def rechunk(rows: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in pieces of `size`; the last may be shorter."""
    chunks = Chunks(size)
    for part in rows:
        yield from chunks.push(part)
    yield from chunks.rest()
