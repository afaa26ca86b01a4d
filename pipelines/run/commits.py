"""Finished shards into manifests: several at a time, merged with whatever others have written meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ifmdm_core.storage import Storage
from pipelines.dataset.manifest import FileRef, Manifest, ShardEntry, commit, replaced
from pipelines.dataset.plan import Plan, read_plan
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
        commit(self.storage, lambda base: self.listed(base, held))
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
    keys_of: dict[str, dict[str, str]] = {}  # by the plan's file: a large plan takes long to digest

    def listed(base: Manifest, held: list[Finished]) -> Manifest:
        generations = dict(base.generations)
        taken = []
        for one in held:
            generation = generations.get(one.group)
            if generation is None:
                continue
            ref = generation.plan
            if ref.key not in keys_of:
                keys_of[ref.key] = plan_of(storage, ref, plans).keys()
            keys = keys_of[ref.key]
            if keys.get(one.shard) != one.entry.inputs:
                continue  # somebody changed the plan meanwhile; the next run makes this shard as they want it
            shards = {n: e for n, e in generation.shards.items() if n in keys}
            generations[one.group] = generation.model_copy(update={"shards": _with(shards, one)})
            taken.append(one)
        return _updated(base, taken, generations=generations)

    return listed


def list_features(base: Manifest, held: list[Finished]) -> Manifest:
    """How feature shards enter a manifest: where their set is still listed."""
    sets = dict(base.features)
    taken = [one for one in held if one.group in sets]
    for one in taken:
        features = sets[one.group]
        sets[one.group] = features.model_copy(update={"shards": _with(features.shards, one)})
    return _updated(base, taken, features=sets)


def _with(shards: dict[str, ShardEntry], one: Finished) -> dict[str, ShardEntry]:
    return dict(sorted({**shards, one.shard: one.entry}.items()))


def _updated(base: Manifest, taken: list[Finished], **tables: object) -> Manifest:
    """The manifest with new tables, and the quarantine of the shards that were taken in."""
    quarantine = replaced(base.quarantine, {f"{one.stage}/{one.shard}": one.quarantine for one in taken})
    return base.model_copy(update={**tables, "quarantine": quarantine})


def plan_of(storage: Storage, ref: FileRef, plans: dict[str, Plan]) -> Plan:
    """A plan by its file, read once."""
    if ref.key not in plans:
        plans[ref.key] = read_plan(storage, ref.key)
    return plans[ref.key]
