"""Disk space back: feature sets that nothing needs, files that no manifest lists, old manifests.

Nothing that the latest manifest lists is deleted; what goes is taken out of the manifest first. Old manifests go last,
so an interrupted call leaves nothing that the next one would not find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import Item, Storage
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FeatureSet, FileRef, Manifest, parse
from pipelines.maintain.bundles import find_bundles
from pipelines.maintain.rewrite import committed

GRACE_S = 3600.0
"""Seconds that unlisted files stay: a writer may be about to list them, a reader may still hold an older manifest."""
KEEP_MANIFESTS = 20
TEMPORARY = ".ifmdm-tmp-*"


@dataclass
class Pruned:
    """What was, or would be, deleted."""

    sets: dict[str, int] = field(default_factory=dict)
    """bytes of each feature set that goes"""
    generations: dict[str, int] = field(default_factory=dict)
    """bytes of each generation's clips that go"""
    files: dict[str, int] = field(default_factory=dict)
    """bytes of each file that goes, those of the sets and generations too, by key"""
    waiting: int = 0
    """unlisted files that are too young"""
    manifests: int = 0

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def prune(
    dataset: Dataset,
    *,
    keep: Sequence[str] = (),
    bundles: str | Path | None = None,
    generations: Sequence[str] = (),
    grace_s: float = GRACE_S,
    keep_manifests: int = KEEP_MANIFESTS,
    dry_run: bool = False,
) -> Pruned:
    """Delete what nothing needs.

    A feature set is needed when it is the newest of its kind and generation, begins with a digest in `keep`, or a
    bundle in the folder `bundles` was trained on it or has the encoder that made it.

    Args:
        generations: old generations of clips that go with all their features; by the beginning of their names.
        grace_s: seconds, by the store's clock, that other unlisted files stay.
        keep_manifests: how many of the newest manifests stay.

    Raises:
        BadInput: the current generation is to go, or no manifest is to stay. NotFound: a generation that is not here.
    """
    if keep_manifests < 1:
        raise BadInput(f"{keep_manifests} manifests kept", fix="keep at least the latest one")
    report = Pruned()
    doomed: dict[str, FileRef] = {}

    def work(now: Dataset) -> Callable[[Manifest], Manifest] | None:
        nonlocal report
        names = _generations(now, generations)
        sets = _unneeded(now.manifest, names, keep, bundles)
        orphans = _orphans(now.manifest, names)
        report = Pruned(
            sets={s.name: sum(e.bytes for e in s.shards.values()) for s in sets},
            generations={
                name: sum(e.bytes for e in now.manifest.generations[name].shards.values()) for name in names
            },
        )
        after = _without(now.manifest, names, {s.name for s in sets}, orphans)
        listed = after.files()
        doomed.update((key, ref) for key, ref in now.manifest.files().items() if key not in listed)
        if dry_run or after == now.manifest:
            return None
        return lambda base: _without(base, names, {s.name for s in sets}, orphans)

    # Files of older manifests are protected as they were before this call's own manifest.
    storage, began = dataset.storage, _now(dataset.storage, dry_run)
    protected = _held_lately(storage, began - timedelta(seconds=grace_s))
    after = committed(dataset, work)
    listed = set(after.manifest.files()) - (set(doomed) if dry_run else set())
    for item in storage.list():
        if item.key.startswith("manifests/") or item.key in listed:
            continue
        if item.key not in doomed and (
            item.key in protected or item.modified > began - timedelta(seconds=grace_s)
        ):
            report.waiting += 1
            continue
        report.files[item.key] = item.size
        if not dry_run:
            _delete(storage, item)
    _temporary(storage, began - timedelta(seconds=grace_s), report, dry_run)
    report.manifests = _old_manifests(storage, keep_manifests, began - timedelta(seconds=grace_s), dry_run)
    return report


def _generations(dataset: Dataset, wanted: Sequence[str]) -> list[str]:
    names = [dataset.generation(name)[0] for name in wanted]
    if dataset.manifest.current in names:
        raise BadInput(
            f"{dataset.manifest.current} is the current generation of {dataset.storage.root}",
            fix="cut one with other parameters first, or delete the folder",
        )
    return names


def _unneeded(
    manifest: Manifest, generations: Sequence[str], keep: Sequence[str], bundles: str | Path | None
) -> list[FeatureSet]:
    newest: dict[tuple[str, str], FeatureSet] = {}
    for features in sorted(manifest.features.values(), key=lambda s: (s.created, s.digest)):
        newest[features.kind, features.generation] = features
    for wanted in keep:
        if not any(wanted and s.digest.startswith(wanted) for s in manifest.features.values()):
            raise NotFound(f"no feature set {wanted!r} to keep", fix="ifmdm data ls names them")
    found = find_bundles(bundles) if bundles is not None else []
    return [
        features
        for features in manifest.features.values()
        if features.generation in generations
        or not (
            newest[features.kind, features.generation] is features
            or any(features.digest.startswith(wanted) for wanted in keep)
            or any(bundle.needs(features) for bundle in found)
        )
    ]


def _orphans(manifest: Manifest, generations: Sequence[str]) -> set[tuple[str, str]]:
    """Feature shards, as (set, shard), whose clip shard is gone: left by a run that a reshard overtook."""
    return {
        (features.name, shard)
        for features in manifest.features.values()
        if features.generation not in generations
        for shard in features.shards
        if shard not in manifest.generations[features.generation].shards
    }


def _without(
    manifest: Manifest, generations: Sequence[str], sets: set[str], orphans: set[tuple[str, str]]
) -> Manifest:
    features = {
        name: one.model_copy(
            update={"shards": {n: e for n, e in one.shards.items() if (name, n) not in orphans}}
        )
        for name, one in manifest.features.items()
        if name not in sets
    }
    stages = {f"clips-{name}" for name in generations} | {name.replace("/", "-") for name in sets}
    quarantine = {
        key: ref for key, ref in manifest.quarantine.items() if key.rpartition("/")[0] not in stages
    }
    return manifest.model_copy(
        update={
            "generations": {n: g for n, g in manifest.generations.items() if n not in generations},
            "features": features,
            "quarantine": quarantine,
        }
    )


def _now(storage: Storage, dry_run: bool) -> datetime:
    """The store's clock; a dry run, which writes nothing, takes this machine's."""
    if dry_run:
        return datetime.now(UTC)
    key = f"plan/clock-{uuid4().hex}"  # were it left behind, the next call would delete it
    storage.put(key, b"")
    item = storage.info(key)
    storage.delete(key)
    return item.modified if item else datetime.now(UTC)


def _held_lately(storage: Storage, since: datetime) -> set[str]:
    """Keys in manifests that were the latest at some time after `since`."""
    held: set[str] = set()
    for item in reversed([*storage.list("manifests/")]):
        try:
            held |= set(parse(storage.get(item.key), item.key).files())
        except NotFound:
            continue
        if item.modified <= since:
            break
    return held


def _delete(storage: Storage, item: Item) -> None:
    """Delete what was listed; a file written again since is somebody's, who is about to list it."""
    found = storage.info(item.key)
    if found is not None and (found.modified, found.etag) == (item.modified, item.etag):
        storage.delete(item.key)


def _temporary(storage: Storage, before: datetime, report: Pruned, dry_run: bool) -> None:
    """Half-written files that a killed process left in a folder; a bucket has none."""
    inside = storage.local_path("manifests")
    if inside is None:
        return
    for path in sorted(inside.parent.rglob(TEMPORARY)):
        try:
            stat = path.stat()
            if datetime.fromtimestamp(stat.st_mtime, UTC) > before:
                continue
            report.files[path.relative_to(inside.parent).as_posix()] = stat.st_size
            if not dry_run:
                path.unlink()
        except FileNotFoundError:
            continue


def _old_manifests(storage: Storage, keep: int, before: datetime, dry_run: bool) -> int:
    items = [item for item in storage.list("manifests/") if item.key.endswith(".json")]
    old = [item for item in items[:-keep] if item.modified <= before]
    for item in old if not dry_run else ():
        storage.delete(item.key)
    return len(old)
