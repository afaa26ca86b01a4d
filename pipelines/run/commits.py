"""Finished shards into manifests: several at a time, merged with whatever others have written meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ifmdm_core.storage import Storage
from pipelines.dataset.manifest import FileRef, Manifest, ShardEntry, commit
from pipelines.dataset.plan import Plan
from pipelines.dataset.quarantine import QuarantineRecord, write_records

INTERVAL_S = 2.0
"""Shortest time between two manifests of a run..."""
SHARE = 0.05
"""...and the largest part of a run's time that writing them may take."""


@dataclass
class Committer:
    """Collects what `listed` turns into manifest entries; nothing finished waits longer than the interval.

    Args:
        listed: puts finished shards into a manifest; called again after a lost race.
    """

    storage: Storage
    listed: Callable[[Manifest, list[Finished]], Manifest]
    clock: Callable[[], float] = time.monotonic
    manifest: Manifest | None = None
    _held: list[Finished] = field(default_factory=list)
    _next: float = 0.0

    def add(self, finished: Finished) -> None:
        """One more shard; writes a manifest when it is time."""
        self._held.append(finished)
        if self.clock() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write a manifest with everything that is held."""
        if not self._held:
            return
        begun, held = self.clock(), self._held
        self.manifest = commit(self.storage, lambda base: self.listed(base, held))
        self._held = []
        self._next = self.clock() + max(INTERVAL_S, (self.clock() - begun) / SHARE)


@dataclass(frozen=True)
class Finished:
    """A shard on storage that no manifest lists yet, and its quarantine file."""

    group: str
    """generation of a clip shard; kind/digest of a feature shard"""
    shard: str
    entry: ShardEntry
    quarantine: FileRef | None
    stage: str


def finished(
    storage: Storage, group: str, stage: str, shard: str, entry: ShardEntry, faults: list[QuarantineRecord]
) -> Finished:
    """Store a shard's faults beside it."""
    return Finished(group, shard, entry, write_records(storage, stage, shard, faults), stage)


def list_clips(storage: Storage, plans: dict[str, Plan]) -> Callable[[Manifest, list[Finished]], Manifest]:
    """How clip shards enter a manifest: only where the plan of that manifest still wants exactly them.

    `plans` is a cache of plans by key.
    """

    def listed(base: Manifest, held: list[Finished]) -> Manifest:
        generations, quarantine = dict(base.generations), dict(base.quarantine)
        for one in held:
            generation = generations.get(one.group)
            if generation is None:
                continue
            keys = plan_of(storage, generation.plan, plans).keys()
            if keys.get(one.shard) != one.entry.inputs:
                continue  # somebody changed the plan meanwhile; the next run makes this shard as they want it
            shards = {n: e for n, e in generation.shards.items() if n in keys}
            generations[one.group] = generation.model_copy(
                update={"shards": dict(sorted({**shards, one.shard: one.entry}.items()))}
            )
            _set(quarantine, f"{one.stage}/{one.shard}", one.quarantine)
        return base.model_copy(update={"generations": generations, "quarantine": quarantine})

    return listed


def list_features(base: Manifest, held: list[Finished]) -> Manifest:
    """How feature shards enter a manifest: where their set is still listed."""
    sets, quarantine = dict(base.features), dict(base.quarantine)
    for one in held:
        features = sets.get(one.group)
        if features is None:
            continue
        shards = dict(sorted({**features.shards, one.shard: one.entry}.items()))
        sets[one.group] = features.model_copy(update={"shards": shards})
        _set(quarantine, f"{one.stage}/{one.shard}", one.quarantine)
    return base.model_copy(update={"features": sets, "quarantine": quarantine})


def plan_of(storage: Storage, ref: FileRef, plans: dict[str, Plan]) -> Plan:
    """A plan by its file, read once."""
    if ref.key not in plans:
        plans[ref.key] = Plan.model_validate_json(storage.get(ref.key))
    return plans[ref.key]


def _set(table: dict[str, FileRef], name: str, ref: FileRef | None) -> None:
    if ref is None:
        table.pop(name, None)
    else:
        table[name] = ref
