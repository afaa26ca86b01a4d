"""How far two motion sets of the same clips are apart: two encoders, or one on two machines.

Two encoders may say the same in other axes. So besides the plain difference there is the best linear map from one to
the other: an R² near 1 means that a generator trained on one could be carried over, near 0 that it starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, Conflict
from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet
from pipelines.dataset.shard_file import feature_values, open_shard

Array = NDArray[np.float64]

RIDGE = 1e-8
"""Of the mean variance of B, added so that a dimension that never moves does no harm."""


@dataclass(frozen=True)
class Diff:
    """B against A. Only clips that both sets have count."""

    first: str
    second: str
    clips: int
    frames: int
    only_first: int
    """clips that are holes in B"""
    only_second: int
    rms: list[float]
    """of b - a, by dimension"""
    r2: list[float]
    """by dimension of A, of the best linear map from B with an offset"""
    cosine: float
    """mean over frames of the cosine between a and b"""
    worst: list[dict[str, Any]]
    """clips that fit worst: clip_id, source, `rms` of b - a, `mapped_rms` after that map; by mapped_rms"""

    def as_dict(self) -> dict[str, Any]:
        total = float(np.sqrt(np.mean(np.square(self.rms))))
        return {**vars(self), "rms_all": total, "r2_mean": float(np.mean(self.r2))}


def diff_motion(dataset: Dataset, first: FeatureSet, second: FeatureSet, worst: int = 10) -> Diff:
    """Compare two feature sets of one kind and generation, in two passes over their shards.

    Raises:
        Conflict: of other kinds or generations, or one lacks shards. BadInput: they have no clip in common.
    """
    if (first.kind, first.generation, first.dim) != (second.kind, second.generation, second.dim):
        raise Conflict(
            f"{first.name} ({first.dim} numbers a frame, generation {first.generation}) and {second.name} "
            f"({second.dim}, {second.generation}) cannot be compared",
            fix="compare sets of one kind and generation: ifmdm data ls",
        )
    if set(first.shards) != set(second.shards):
        raise Conflict(
            f"{first.name} has {len(first.shards)} shards, {second.name} {len(second.shards)}",
            fix="run ifmdm data features again, then compare",
        )
    sums = _Sums(first.dim)
    holes = [0, 0]
    for _, a, b in _pairs(dataset, first, second):
        holes[0] += a is not None and b is None
        holes[1] += a is None and b is not None
        if a is not None and b is not None:
            sums.add(a, b)
    if not sums.clips:
        raise BadInput(f"{first.name} and {second.name} have no clip in common")
    weights, r2 = sums.fit()
    found = []
    for clip, a, b in _pairs(dataset, first, second):
        if a is None or b is None:
            continue
        mapped = a - b @ weights[:-1] - weights[-1]
        plain = float(np.sqrt(np.mean((a - b) ** 2)))
        found.append((float(np.sqrt(np.mean(mapped**2))), clip, plain))
    found = sorted(found, key=lambda item: (-item[0], item[1]))[:worst]
    sources = _sources(dataset, first.generation, {clip for _, clip, _ in found})
    return Diff(
        first=first.name,
        second=second.name,
        clips=sums.clips,
        frames=sums.frames,
        only_first=holes[0],
        only_second=holes[1],
        rms=sums.rms(),
        r2=r2.tolist(),
        cosine=sums.cosine / sums.frames,
        worst=[
            {"clip_id": clip, "source": sources[clip], "rms": plain, "mapped_rms": mapped}
            for mapped, clip, plain in found
        ],
    )


def _pairs(
    dataset: Dataset, first: FeatureSet, second: FeatureSet
) -> Iterator[tuple[str, Array | None, Array | None]]:
    """Of every clip: its id and both sets' rows [n, dim], None for a hole."""
    for shard in sorted(first.shards):
        with (
            open_shard(dataset.storage, first.shards[shard], first.kind) as one,
            open_shard(dataset.storage, second.shards[shard], second.kind) as two,
        ):
            if one["clip_id"] != two["clip_id"]:
                raise Conflict(
                    f"shard {shard} of {first.name} and of {second.name} hold other clips",
                    fix="run ifmdm data features again, then compare",
                )
            for row, clip in enumerate(one["clip_id"].to_pylist()):
                a = feature_values(one[first.kind], row, first.dim)
                b = feature_values(two[second.kind], row, second.dim)
                yield (
                    clip,
                    None if a is None else a.astype(np.float64),
                    None if b is None else b.astype(np.float64),
                )


class _Sums:
    """Moments of a and b [n, dim], clip by clip."""

    def __init__(self, dim: int) -> None:
        self.clips, self.frames, self.cosine = 0, 0, 0.0
        self.difference, self.a, self.aa = np.zeros(dim), np.zeros(dim), np.zeros(dim)
        self.ab = np.zeros((dim + 1, dim))
        self.bb = np.zeros((dim + 1, dim + 1))

    def add(self, a: Array, b: Array) -> None:
        self.clips += 1
        self.frames += len(a)
        self.difference += ((a - b) ** 2).sum(0)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        self.cosine += float(((a * b).sum(1) / np.maximum(norms, 1e-12)).sum())
        padded = np.concatenate([b, np.ones((len(b), 1))], 1)  # [n, dim + 1]
        self.ab += padded.T @ a
        self.bb += padded.T @ padded
        self.a += a.sum(0)
        self.aa += (a**2).sum(0)

    def rms(self) -> list[float]:
        return np.sqrt(self.difference / self.frames).tolist()  # type: ignore[no-any-return]

    def fit(self) -> tuple[Array, Array]:
        """Least squares a = [b, 1] @ weights [dim + 1, dim], and its R² [dim]; 1 where A does not move."""
        penalty = RIDGE * np.trace(self.bb) / len(self.bb)
        weights = np.linalg.solve(self.bb + penalty * np.eye(len(self.bb)), self.ab)
        left = self.aa - 2 * (weights * self.ab).sum(0) + (weights * (self.bb @ weights)).sum(0)
        total = self.aa - self.a**2 / self.frames
        moves = total > 1e-12 * np.maximum(self.aa, 1e-12)
        return weights, np.where(moves, 1 - np.maximum(left, 0) / np.where(moves, total, 1), 1.0)


def _sources(dataset: Dataset, generation: str, clips: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for shard in sorted(dataset.generation(generation)[1].shards):
        if len(found) == len(clips):
            break
        for row in read_columns(dataset, shard, ("clip_id", "source"), generation).to_pylist():
            if row["clip_id"] in clips:
                found[row["clip_id"]] = row["source"]
    return found


def show(diff: Diff) -> None:
    """Print a comparison."""
    print(f"A  {diff.first}\nB  {diff.second}")
    print(f"{diff.clips:,} clips, {diff.frames:,} frames in both; holes only in B {diff.only_first}, "
          f"only in A {diff.only_second}")  # fmt: skip
    print(f"cosine {diff.cosine:.4f}   R² of the best linear map B -> A {np.mean(diff.r2):.4f}")
    print("\ndimension   RMS of B - A   R²")
    for dim, (rms, r2) in enumerate(zip(diff.rms, diff.r2, strict=True)):
        print(f"{dim:>9}   {rms:>12.5f}   {r2:.4f}")
    print("\nworst clips: RMS after that map, RMS of B - A")
    for clip in diff.worst:
        print(f"{clip['mapped_rms']:.5f}  {clip['rms']:.5f}  {clip['clip_id']}  {clip['source']}")
