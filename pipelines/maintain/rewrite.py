"""A generation under another plan of the same spans, or fewer: rows, features and refusals move, nothing is computed.

What is written is listed in one manifest; until then readers see the old shards, and the old files stay.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ifmdm_core.errors import Conflict
from pipelines.dataset.copy_rows import Piece, copied_features, copied_rows, joined, rows_by_span
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.ids import digest
from pipelines.dataset.manifest import (
    FeatureSet,
    FileRef,
    Generation,
    Manifest,
    ShardEntry,
    commit,
    feature_inputs,
    replaced,
)
from pipelines.dataset.plan import Plan, PlannedShard, store_plan
from pipelines.dataset.quarantine import QuarantineRecord, read_records, write_records
from pipelines.dataset.shard_file import open_shard, write_clip_shard, write_feature_shard

THREADS = 4
"""Shards moved at the same time; most of the time is a store's."""
_TRIES = 5


@dataclass
class Rewrite:
    """One generation as it will be listed."""

    name: str
    plan: FileRef
    shards: dict[str, ShardEntry] = field(default_factory=dict)
    features: dict[str, dict[str, ShardEntry]] = field(default_factory=dict)
    """by set, the shards it has under the new plan"""
    quarantine: dict[str, FileRef | None] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    """new shards that the next run has to make, for their old ones were not finished"""

    def apply(self, manifest: Manifest) -> Manifest:
        """The manifest with this generation under its new plan."""
        sets = {
            name: features.model_copy(update={"shards": self.features.get(name, {})})
            if features.generation == self.name
            else features
            for name, features in manifest.features.items()
        }
        return manifest.model_copy(
            update={
                "generations": {
                    **manifest.generations,
                    self.name: Generation(plan=self.plan, shards=self.shards),
                },
                "features": sets,
                "quarantine": replaced(manifest.quarantine, self.quarantine),
            }
        )


def rewrite(dataset: Dataset, generation: str, plan: Plan, *, whole: bool) -> Rewrite:
    """Write the shards that a generation lacks under `plan`, whose spans are all in the present plan.

    Args:
        whole: refuse where a shard is not finished; else such a shard is left for the next run to make.

    Raises:
        Conflict: a shard is not finished, or damaged.
    """
    name, before = dataset.generation(generation)
    return _Writer(dataset, name, before, plan, whole).run()


def committed(dataset: Dataset, work: Callable[[Dataset], Callable[[Manifest], Manifest] | None]) -> Dataset:
    """Commit what `work` makes of the dataset; begin again from the latest manifest when somebody was faster.

    Args:
        work: writes files and gives the change of the manifest; None changes nothing.

    Raises:
        Conflict: others kept changing the same shards.
    """
    for _ in range(_TRIES):
        change, base = work(dataset), dataset.manifest
        if change is None:
            return dataset

        def checked(latest: Manifest, change: Any = change, base: Manifest = base) -> Manifest:
            if (latest.generations, latest.features, latest.quarantine) != (
                base.generations,
                base.features,
                base.quarantine,
            ):
                raise _Overtaken
            return change(latest)  # type: ignore[no-any-return]

        try:
            return Dataset(dataset.storage, commit(dataset.storage, checked))
        except _Overtaken:
            dataset = dataset.refresh()
    raise Conflict(
        f"{dataset.storage.root} was changed {_TRIES} times meanwhile",
        fix="wait until no other command writes to it, then run this again",
    )


class _Overtaken(Exception):
    """Another manifest was written while shards were being moved."""


class _Writer:
    def __init__(self, dataset: Dataset, name: str, before: Generation, plan: Plan, whole: bool) -> None:
        self.storage, self.manifest = dataset.storage, dataset.manifest
        self.name, self.before, self.plan, self.whole = name, before, plan, whole
        self.old_plan = dataset.plan(name)
        self.sets = [s for s in dataset.manifest.features.values() if s.generation == name]
        self.scratch = Path(tempfile.gettempdir())
        self.homes: dict[str, str] = {}  # clip id -> new shard

    def run(self) -> Rewrite:
        old_keys, new_keys = self.old_plan.keys(), self.plan.keys()
        result = Rewrite(self.name, store_plan(self.storage, self.plan))
        result.features = {features.name: {} for features in self.sets}
        same = {
            shard.name
            for shard in self.plan.shards
            if new_keys[shard.name] == old_keys.get(shard.name) and shard.name in self.before.shards
        }
        for name in same:
            result.shards[name] = self.before.shards[name]
            for features in self.sets:
                if name in features.shards:
                    result.features[features.name][name] = features.shards[name]
        places = self._places([shard for shard in self.old_plan.shards if shard.name not in same])
        todo = [shard for shard in self.plan.shards if shard.name not in same]
        ready = []
        for shard in todo:
            if all(span in places for span in map(_span_key, shard.spans)):
                ready.append(shard)
            else:
                result.unfinished.append(shard.name)
        with ThreadPoolExecutor(THREADS, "rewrite") as pool:
            jobs = [pool.submit(self._shard, s, [places[_span_key(p)] for p in s.spans]) for s in ready]
            for shard, job in zip(ready, jobs, strict=True):
                result.shards[shard.name], made = job.result()
                for name, entry in made.items():
                    result.features[name][shard.name] = entry
        result.shards = dict(sorted(result.shards.items()))
        result.features = {name: dict(sorted(shards.items())) for name, shards in result.features.items()}
        result.quarantine = self._quarantine(result, same)
        return result

    def _places(self, shards: Sequence[PlannedShard]) -> dict[tuple[Any, ...], Piece]:
        """Where the rows of every finished span are."""
        places: dict[tuple[Any, ...], Piece] = {}
        for shard in shards:
            entry = self.before.shards.get(shard.name)
            try:
                if entry is None or (self.whole and entry.inputs != self.old_plan.key(shard)):
                    raise Conflict(
                        f"clip shard {shard.name} of {self.storage.root} is not finished",
                        fix="run ifmdm data clips first",
                    )
                with open_shard(self.storage, entry, "clips") as table:
                    found = rows_by_span(table, shard, self.old_plan)
            except Conflict:
                if self.whole:
                    raise
                continue
            places.update((_span_key(span), piece) for span, piece in found)
        return places

    def _shard(self, shard: PlannedShard, pieces: list[Piece]) -> tuple[ShardEntry, dict[str, ShardEntry]]:
        """A clip shard and, of every set that has all of its rows, the feature shard."""
        old = self.before.shards
        ids: list[str] = []

        def rows() -> Iterator[dict[str, Any]]:
            for row in copied_rows(self.storage, old, pieces, self.scratch):
                ids.append(row["clip_id"])
                yield row

        sources = {piece.shard for piece in pieces}
        finished = all(old[name].inputs == self._old_key(name) for name in sources)
        # An unfinished shard stays one: its key is none that a plan gives, so the next run goes through it.
        inputs = (
            self.plan.key(shard) if finished else digest("moved", *(old[n].inputs for n in sorted(sources)))
        )
        pieces = joined(pieces)
        entry = write_clip_shard(
            self.storage, f"clips/{self.name}", shard.name, rows(), inputs=inputs, scratch=self.scratch
        )
        entry = entry.model_copy(update={"made": next((old[name].made for name in sorted(sources)), {})})
        self.homes.update(dict.fromkeys(ids, shard.name))
        features = {}
        for one in self.sets:
            made = self._features(one, shard.name, entry, ids, pieces)
            if made is not None:
                features[one.name] = made
        return entry, features

    def _features(
        self, features: FeatureSet, shard: str, clips: ShardEntry, ids: list[str], pieces: list[Piece]
    ) -> ShardEntry | None:
        sources = {piece.shard for piece in pieces}
        if not sources <= set(features.shards):
            return None  # the next run makes it
        found, values = copied_features(
            self.storage, features.shards, pieces, features.kind, features.dim, self.scratch
        )
        if found != ids:
            return None  # made from older clips
        current = all(
            features.shards[name].inputs == feature_inputs(features.digest, self.before.shards[name])
            for name in sources
        )
        entry = write_feature_shard(
            self.storage, features.name, shard, features.kind, features.dim, ids, values,
            inputs=feature_inputs(features.digest, clips) if current else digest("moved", clips.inputs),
            clips_key=clips.inputs, scratch=self.scratch,
        )  # fmt: skip
        made = next((features.shards[piece.shard].made for piece in pieces), {})
        return entry.model_copy(update={"made": made})

    def _old_key(self, name: str) -> str | None:
        return next((self.old_plan.key(shard) for shard in self.old_plan.shards if shard.name == name), None)

    def _quarantine(self, result: Rewrite, same: set[str]) -> dict[str, FileRef | None]:
        """The refusals of moved spans and clips in the shards where they are now; others are dropped."""
        spans = {_span_key(span): shard.name for shard in self.plan.shards for span in shard.spans}
        stages = {f"clips-{self.name}": None, **{f"{s.kind}-{s.digest}": s.name for s in self.sets}}
        lists: dict[tuple[str, str], list[QuarantineRecord]] = {}
        changed: dict[str, FileRef | None] = {}
        for key, ref in self.manifest.quarantine.items():
            stage, _, shard = key.rpartition("/")
            if stage not in stages or shard in same:
                continue
            changed[key] = None
            for record in read_records(self.storage, ref):
                set_name = stages[stage]
                if set_name is None:
                    home = spans.get((record.source, *(record.span or ())))
                else:
                    home = self.homes.get(record.clip_id or "")
                    home = home if home in result.features[set_name] else None
                if home is not None:
                    lists.setdefault((stage, home), []).append(record.model_copy(update={"shard": home}))
        for (stage, home), records in lists.items():
            changed[f"{stage}/{home}"] = write_records(self.storage, stage, home, records)
        return changed


def _span_key(span: Any) -> tuple[Any, ...]:
    return span.source, span.start, span.end
