"""Figures of a dataset: how much of what, how good it is, how its motion is distributed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.dataset.columns import read_columns
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet
from pipelines.dataset.quarantine import all_records
from pipelines.dataset.selection import QUALITY, Selection, folder_of
from pipelines.dataset.shard_file import feature_values, open_shard

BINS = 24
MOTION_BINS = 80
"""Of motion values, from -1 to 1."""
SATURATED = 0.98
"""A motion value beyond this says that the encoder is at its limit."""
GROUPS = ("identity", "rights", "consent", "split", "label", "folder")
_COLUMNS = (*QUALITY, "clip_id", "source", "identity", "rights", "consent", "split", "labels")


@dataclass
class Stats:
    """All that the report shows. Hours are hours of clips."""

    dataset: str
    manifest: int
    generation: str
    selection: str | None
    clips: int = 0
    frames: int = 0
    fps: int = 25
    bytes: int = 0
    """of the clip shards, whatever is selected"""
    sources: int = 0
    silent_clips: int = 0
    groups: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    """clips and hours by value of `GROUPS`, most hours first; "unknown" where nothing is said"""
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by column: `edges` and `counts` of a histogram, `percentiles` 5, 25, 50, 75, 95, clips that are `missing`"""
    left_out: dict[str, int] = field(default_factory=dict)
    """clips that the selection leaves out, by reason"""
    quarantine: dict[str, int] = field(default_factory=dict)
    """records by reason"""
    offsets: dict[str, float] = field(default_factory=dict)
    """seconds that the sound comes late, by folder, as the selection has it"""
    motion: dict[str, Any] | None = None
    """of the set: `name`, `frames`, and by dimension `mean`, `deviation`, `speed` (deviation of the change from
    frame to frame), `minimum`, `maximum`, `saturated` (share beyond 0.98), `histogram` [dim][bin] over -1..1"""

    @property
    def hours(self) -> float:
        return self.frames / self.fps / 3600

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "hours": self.hours}


def compute_stats(
    dataset: Dataset,
    generation: str | None = None,
    selection: Selection | None = None,
    motion: FeatureSet | None = None,
) -> Stats:
    """Read the columns of all clips that count, and the motion set where one is given; opens no video."""
    name, made = dataset.generation(generation or (selection.generation if selection else None))
    stats = Stats(
        str(dataset.storage.root), dataset.manifest.number, name, selection.name if selection else None,
        fps=dataset.plan(name).parameters.fps, bytes=sum(entry.bytes for entry in made.shards.values()),
        offsets=dict(selection.offsets) if selection else {},
    )  # fmt: skip
    stats.quarantine = dict(
        Counter(record.reason for record in all_records(dataset.storage, dataset.manifest)).most_common()
    )
    groups: dict[str, dict[str, list[int]]] = {group: defaultdict(lambda: [0, 0]) for group in GROUPS}
    values: dict[str, list[float]] = {column: [] for column in QUALITY}
    sources: set[str] = set()
    left_out: Counter[str] = Counter()
    moves = _Motion(dataset, motion) if motion else None
    for shard in sorted(made.shards):
        rows = read_columns(dataset, shard, _COLUMNS, name).to_pylist()
        counted = []
        for number, row in enumerate(rows):
            refusal = selection.refusal(row) if selection else None
            if refusal:
                left_out[refusal] += 1
                continue
            counted.append(number)
            sources.add(row["source"])
            stats.clips += 1
            stats.frames += row["num_frames"]
            stats.silent_clips += row["loudness"] is None
            for column in QUALITY:
                values[column].append(np.nan if row[column] is None else row[column])
            for group, value in _groups_of(row, selection):
                groups[group][value][0] += 1
                groups[group][value][1] += row["num_frames"]
        if moves:
            moves.add(shard, counted)
    stats.sources = len(sources)
    stats.left_out = dict(sorted(left_out.items()))
    for group, found in groups.items():
        ordered = sorted(found.items(), key=lambda pair: (-pair[1][1], pair[0]))
        stats.groups[group] = {
            value: (clips, frames / stats.fps / 3600) for value, (clips, frames) in ordered
        }
    stats.quality = {column: _histogram(np.array(found)) for column, found in values.items()}
    stats.quality["seconds"] = _histogram(np.array(values["num_frames"]) / stats.fps)
    stats.motion = moves.result() if moves and moves.frames else None
    return stats


def _groups_of(row: dict[str, Any], selection: Selection | None) -> Iterator[tuple[str, str]]:
    for group in ("identity", "rights", "consent"):
        yield group, row[group] or "unknown"
    yield "split", selection.split_of(row) if selection else row["split"] or "unknown"
    for label in row["labels"] or ("unknown",):
        yield "label", label
    yield "folder", folder_of(row["source"])


def _histogram(values: NDArray[np.float64]) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"edges": [], "counts": [], "percentiles": [], "missing": len(values)}
    low, high = np.percentile(known, [0, 99.5])
    counts, edges = np.histogram(np.clip(known, low, high), BINS, (low, high if high > low else low + 1))
    return {
        "edges": [float(f"{edge:.6g}") for edge in edges],
        "counts": counts.tolist(),
        "percentiles": [float(f"{value:.6g}") for value in np.percentile(known, [5, 25, 50, 75, 95])],
        "missing": len(values) - len(known),
    }


class _Motion:
    """Sums over the frames of a motion set."""

    def __init__(self, dataset: Dataset, features: FeatureSet) -> None:
        self.dataset, self.features = dataset, features
        dim = features.dim
        self.frames, self.steps = 0, 0
        self.sum, self.squares, self.changes = np.zeros(dim), np.zeros(dim), np.zeros(dim)
        self.low, self.high, self.beyond = np.full(dim, np.inf), np.full(dim, -np.inf), np.zeros(dim)
        self.histogram = np.zeros((dim, MOTION_BINS), np.int64)

    def add(self, shard: str, rows: list[int]) -> None:
        """The clips numbered `rows` of a shard; holes are left out."""
        entry = self.features.shards.get(shard)
        if entry is None:
            return
        dim = self.features.dim
        with open_shard(self.dataset.storage, entry, self.features.kind) as table:
            for row in rows:
                values = feature_values(table.column(self.features.kind), row, dim)
                if values is None:
                    continue
                exact = values.astype(np.float64)  # [n, dim]
                self.frames += len(exact)
                self.steps += len(exact) - 1
                self.sum += exact.sum(0)
                self.squares += (exact**2).sum(0)
                self.changes += (np.diff(exact, axis=0) ** 2).sum(0)
                self.low, self.high = np.minimum(self.low, exact.min(0)), np.maximum(self.high, exact.max(0))
                self.beyond += (np.abs(exact) > SATURATED).sum(0)
                bins = np.clip(((exact + 1) / 2 * MOTION_BINS).astype(int), 0, MOTION_BINS - 1)
                np.add.at(self.histogram, (np.arange(dim)[None, :], bins), 1)

    def result(self) -> dict[str, Any]:
        mean = self.sum / self.frames
        return {
            "name": self.features.name,
            "made_by": self.features.made_by,
            "frames": self.frames,
            "mean": _short(mean),
            "deviation": _short(np.sqrt(np.maximum(self.squares / self.frames - mean**2, 0))),
            "speed": _short(np.sqrt(self.changes / max(1, self.steps))),
            "minimum": _short(self.low),
            "maximum": _short(self.high),
            "saturated": _short(self.beyond / self.frames),
            "histogram": self.histogram.tolist(),
        }


def _short(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
