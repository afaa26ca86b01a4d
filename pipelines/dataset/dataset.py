"""A dataset as its users hold it: where it lies, its latest manifest, its plan, its feature sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ifmdm_core.errors import Conflict, NotFound
from ifmdm_core.storage import S3Config, Storage, open_storage
from pipelines.dataset.manifest import FeatureSet, Generation, Manifest, latest
from pipelines.dataset.plan import Plan, read_plan
from pipelines.dataset.shard_file import check_alignment, open_shard


@dataclass
class Dataset:
    """A handle on one manifest of a dataset; `refresh` moves it to the latest."""

    storage: Storage
    manifest: Manifest

    @classmethod
    def open(cls, uri: str | Path, s3: S3Config | None = None) -> Dataset:
        """The dataset at a folder or `s3://bucket/prefix`.

        Raises:
            NotFound: there is no manifest.
        """
        dataset = cls.at(uri, s3)
        if dataset.manifest.number < 0:
            raise NotFound(
                f"{uri} is no dataset: it has no manifests",
                fix="make one with ifmdm data clips SOURCE DATASET",
            )
        return dataset

    @classmethod
    def at(cls, uri: str | Path, s3: S3Config | None = None) -> Dataset:
        """Like `open`, but a place with nothing in it is an empty dataset."""
        storage = open_storage(uri, s3)
        return cls(storage, latest(storage))

    def refresh(self) -> Dataset:
        """The same dataset at its latest manifest."""
        return Dataset(self.storage, latest(self.storage))

    def generation(self, name: str | None = None) -> tuple[str, Generation]:
        """A generation by (the beginning of) its name; the current one when None."""
        if not self.manifest.generations:
            raise NotFound(
                f"{self.storage.root} has no clips", fix="make some with ifmdm data clips SOURCE DATASET"
            )
        wanted = name or self.manifest.current
        found = [g for g in self.manifest.generations if wanted and g.startswith(wanted)]
        if len(found) != 1:
            names = ", ".join(self.manifest.generations) or "none"
            raise NotFound(f"{self.storage.root} has no generation {wanted!r}", fix=f"it has {names}")
        return found[0], self.manifest.generations[found[0]]

    def plan(self, generation: str | None = None) -> Plan:
        """The plan of a generation."""
        return read_plan(self.storage, self.generation(generation)[1].plan.key)

    def features(self, kind: str, digest: str | None = None, generation: str | None = None) -> FeatureSet:
        """A feature set by kind and the beginning of its digest; the newest of the generation when None.

        Raises:
            NotFound: none. Conflict: several sets begin with that digest.
        """
        wanted = self.generation(generation)[0]
        sets = [s for s in self.manifest.features.values() if s.kind == kind and s.generation == wanted]
        chosen = [s for s in sets if s.digest.startswith(digest or "")]
        if not chosen:
            have = ", ".join(s.digest for s in sets) or "none"
            raise NotFound(
                f"{self.storage.root} has no {kind} features {digest or ''}".rstrip(),
                fix=f"it has {have}; make some with ifmdm data features",
            )
        if digest and len(chosen) > 1:
            raise Conflict(f"{kind} features {digest!r} could be {', '.join(s.digest for s in chosen)}")
        return max(chosen, key=lambda s: (s.created, s.digest))

    @contextmanager
    def clips(self, shard: str, generation: str | None = None) -> Iterator[pa.Table]:
        """The rows of a clip shard."""
        name, entry = self.generation(generation)
        if shard not in entry.shards:
            raise NotFound(f"{self.storage.root} has no clip shard {shard!r} in generation {name}")
        with open_shard(self.storage, entry.shards[shard], "clips") as table:
            yield table

    @contextmanager
    def aligned(self, shard: str, *sets: FeatureSet) -> Iterator[tuple[pa.Table, ...]]:
        """Clip rows and the rows of feature sets that belong to them, one by one.

        Raises:
            Conflict: a set is of another generation, lacks this shard, or was made from other rows.
        """
        generation = sets[0].generation if sets else None
        with ExitStack() as stack:
            clips = stack.enter_context(self.clips(shard, generation))
            entry = self.generation(generation)[1].shards[shard]
            tables = [clips]
            for features in sets:
                if features.generation != generation or shard not in features.shards:
                    raise Conflict(
                        f"{features.name} lacks shard {shard} of generation {generation}",
                        fix="run ifmdm data features again",
                    )
                made = features.shards[shard]
                table = stack.enter_context(open_shard(self.storage, made, features.kind))
                check_alignment(table, clips, entry.inputs, f"{self.storage.root}/{made.key}")
                tables.append(table)
            yield tuple(tables)
