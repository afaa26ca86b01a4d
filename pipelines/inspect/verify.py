"""Whether every file that the manifest lists is there, unharmed, and fits the others.

Two kinds of outcome are kept apart. *Damage*: bytes that are not those the manifest promised. *Unfinished*: shards
that the plan wants and a run has not made yet, or that were made from something older; the next run makes them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from ifmdm_core.errors import BadInput, Conflict, NotFound, Unsupported
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import Item
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet, FileRef, ShardEntry
from pipelines.dataset.plan import Plan
from pipelines.dataset.quarantine import QuarantineRecord
from pipelines.dataset.schema import metadata_of
from pipelines.dataset.shard_file import feature_values, mapped

THREADS = 4
"""Shards read at the same time; hashing and downloads release the interpreter."""


@dataclass(frozen=True)
class Damage:
    """One file that is not what the manifest says."""

    name: str
    """The shard, as `clips/2354c531/00001`; for other files their key."""
    ref: FileRef
    """What the manifest promises."""
    what: str


@dataclass
class Report:
    """What `verify` found."""

    manifest: int
    quick: bool
    files: int = 0
    bytes: int = 0
    rows: int = 0
    """clips"""
    damage: list[Damage] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """Shards that the next run of `data clips` or `data features` makes, with the reason."""

    def as_dict(self) -> dict[str, Any]:
        damage = [{"shard": d.name, "key": d.ref.key, "what": d.what} for d in self.damage]
        return {**vars(self), "damage": damage}


def verify(
    dataset: Dataset, quick: bool = False, on_file: Callable[[FileRef], None] = lambda file: None
) -> Report:
    """Check every listed file: there, its size, its sha256, schema, rows, unique ids, features row by row.

    Args:
        quick: of shards only existence and size, by a listing.
        on_file: called after each file, from several threads.

    Raises:
        Unavailable: the store does not answer; never taken for damage.
    """
    there = {item.key: item for item in dataset.storage.list()} if quick else None
    walk = _Walk(dataset, Report(dataset.manifest.number, quick), there, on_file)
    manifest = dataset.manifest
    for ref in manifest.selections.values():
        walk.file(ref, ref.key)
    for ref in manifest.quarantine.values():
        walk.file(ref, ref.key, _check_records(ref))
    for name in manifest.generations:
        walk.generation(name)
    walk.report.damage.sort(key=lambda d: d.name)
    walk.report.unfinished.sort()
    return walk.report


@dataclass
class _Walk:
    dataset: Dataset
    report: Report
    there: dict[str, Item] | None
    """What a listing showed, when shards are not to be read."""
    on_file: Callable[[FileRef], None]

    def generation(self, name: str) -> None:
        """The plan of a generation, its clip shards, and beside each its feature shards."""
        generation = self.dataset.manifest.generations[name]
        plans: list[Plan] = []
        self.file(generation.plan, generation.plan.key, lambda path: plans.append(self.dataset.plan(name)))
        if plans:
            self._compare(plans[0], name)
        shards = sorted(generation.shards)
        with ThreadPoolExecutor(THREADS) as pool:
            ids = list(pool.map(lambda shard: self._shard(name, shard), shards))
        values, counts = np.unique(np.concatenate([*ids, np.zeros(0, np.uint64)]), return_counts=True)
        for shard, own in zip(shards, ids, strict=True):
            if np.isin(own, values[counts > 1]).any():
                damage = "holds clips that are there twice"
                self._damaged(f"clips/{name}/{shard}", generation.shards[shard], damage)

    def _compare(self, plan: Plan, generation: str) -> None:
        made = self.dataset.manifest.generations[generation].shards
        wanted = plan.keys()
        for shard in sorted({*wanted, *made}):
            if shard not in made:
                self.report.unfinished.append(f"clips/{generation}/{shard}: not made yet")
            elif made[shard].inputs != wanted.get(shard):
                self.report.unfinished.append(f"clips/{generation}/{shard}: made from something older")

    def _shard(self, generation: str, shard: str) -> np.ndarray:
        """Checks a clip shard and what was made from it; its clip ids as numbers, uint64 [rows]."""
        entry = self.dataset.manifest.generations[generation].shards[shard]
        clips: list[tuple[list[str], list[int]]] = []

        def look(path: Path) -> None:
            with mapped(path, entry, "clips", entry.key) as table:
                clips.append(_check_clips(table, entry))
                self.report.rows += table.num_rows

        self.file(entry, f"clips/{generation}/{shard}", look)
        for features in self.dataset.manifest.features.values():
            if features.generation == generation:
                self._features(features, shard, entry, clips)
        return np.array([int(name[:16], 16) for ids, _ in clips for name in ids], np.uint64)

    def _features(
        self, features: FeatureSet, shard: str, clips: ShardEntry, rows: list[tuple[list[str], list[int]]]
    ) -> None:
        name = f"{features.name}/{shard}"
        entry = features.shards.get(shard)
        if entry is None:
            self.report.unfinished.append(f"{name}: not made yet")
            return

        def look(path: Path) -> None:
            with mapped(path, entry, features.kind, entry.key) as table:
                if metadata_of(table.schema).get("clips") != clips.inputs:
                    self.report.unfinished.append(f"{name}: made from an older clip shard")
                elif rows:
                    _check_features(table, features, entry, *rows[0])

        self.file(entry, name, look)

    def file(self, ref: FileRef, name: str, look: Callable[[Path], None] = lambda path: None) -> None:
        """Compare a file with the manifest, then `look` at it as a local file; what that raises is damage too."""
        try:
            if self.there is not None and isinstance(ref, ShardEntry):
                item = self.there.get(ref.key)
                _check_size(None if item is None else item.size, ref)
            else:
                self._read(ref, look)
        except NotFound:
            self._damaged(name, ref, "is not there")
        except (BadInput, Conflict, Unsupported) as error:
            self._damaged(name, ref, error.what)
        except (ValidationError, pa.ArrowInvalid, ValueError) as error:
            self._damaged(name, ref, str(error).splitlines()[0])
        self.report.files += 1
        self.report.bytes += ref.bytes
        self.on_file(ref)

    def _read(self, ref: FileRef, look: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="ifmdm-verify-") as room:
            path = self.dataset.storage.local_path(ref.key)
            if path is None:
                path = Path(room) / "file"
                self.dataset.storage.fetch(ref.key, path)
            _check_size(path.stat().st_size if path.is_file() else None, ref)
            # It ends here where the digest is wrong: opening a damaged Arrow file may do worse than raise.
            if (found := sha256_of_file(path)) != ref.sha256:
                raise Conflict(f"its sha256 is {found[:8]}…, the manifest says {ref.sha256[:8]}…")
            look(path)

    def _damaged(self, name: str, ref: FileRef, what: str) -> None:
        self.report.damage.append(Damage(name, ref, what))


def _check_size(found: int | None, ref: FileRef) -> None:
    if found is None:
        raise NotFound(f"{ref.key} is not there")
    if found != ref.bytes:
        raise Conflict(f"has {found} bytes, the manifest says {ref.bytes}")


def _check_records(ref: FileRef) -> Callable[[Path], None]:
    def look(path: Path) -> None:
        records = [QuarantineRecord.model_validate_json(line) for line in path.read_text().splitlines()]
        if len(records) != ref.rows:
            raise Conflict(f"holds {len(records)} records, the manifest says {ref.rows}")

    return look


def _check_clips(table: pa.Table, entry: ShardEntry) -> tuple[list[str], list[int]]:
    """Ids and lengths of the clips; Conflict where the table contradicts the manifest."""
    table.validate(full=True)
    frames = table.column("num_frames").to_pylist()
    if sum(frames) != entry.frames:
        raise Conflict(f"has {sum(frames)} frames, the manifest says {entry.frames}")
    if table.num_rows and pc.min(pc.binary_length(table.column("video"))).as_py() == 0:
        raise Conflict("has a clip without video")
    return table.column("clip_id").to_pylist(), frames


def _check_features(
    table: pa.Table, features: FeatureSet, entry: ShardEntry, ids: list[str], frames: list[int]
) -> None:
    """Conflict where rows are not those of the clips, one by one and frame by frame."""
    table.validate(full=True)
    if table.column("clip_id").to_pylist() != ids:
        raise Conflict("its rows are not those of its clip shard")
    column = table.column(features.kind)
    holes = column.null_count
    if holes != entry.holes:
        raise Conflict(f"has {holes} holes, the manifest says {entry.holes}")
    total = 0
    for row, expected in enumerate(frames):
        values = feature_values(column, row, features.dim)
        if values is None:
            continue
        if len(values) != expected:
            raise Conflict(f"row {row} has {len(values)} frames, its clip {expected}")
        if not np.isfinite(values).all():
            raise Conflict(f"row {row} holds numbers that are not finite")
        total += len(values)
    if total != entry.frames:
        raise Conflict(f"has {total} frames, the manifest says {entry.frames}")
