"""A source taken out for good: its rows, features and refusals, why, and what was made while it was here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ifmdm_core.errors import BadInput, IfmdmError, NotFound, nearest
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import Manifest, Removal, parse
from pipelines.dataset.plan import Plan, PlannedSource, extend
from pipelines.maintain.bundles import find_bundles
from pipelines.maintain.rewrite import committed, rewrite


@dataclass
class Removed:
    """What was, or would be, taken out."""

    sources: dict[str, str] = field(default_factory=dict)
    """sha256 by name: what was asked for, and everything with the same content"""
    clips: int = 0
    frames: int = 0
    shards: list[str] = field(default_factory=list)
    """clip shards that are written anew, as generation/shard"""
    features: list[str] = field(default_factory=list)
    """feature sets that hold it"""
    bundles: list[str] = field(default_factory=list)
    """bundles whose lineage names such a set, or this dataset while it held the source"""
    selections: list[str] = field(default_factory=list)
    """selections made while it was here"""
    unfinished: list[str] = field(default_factory=list)
    """clip shards that were half made of another plan, and are left for the next `data clips` to make whole"""
    bytes: int = 0
    """of listed files that hold it now; `data prune` deletes them"""


def remove(
    dataset: Dataset,
    sources: Sequence[str],
    why: str,
    *,
    bundles: str | Path | None = None,
    dry_run: bool = False,
) -> tuple[Dataset, Removed]:
    """Take sources out of every generation. Their content is refused when it comes again under any name.

    Args:
        sources: names as in the clip rows, names in the plan, or the URIs they were read from.
        why: kept in the manifest.
        bundles: folder of bundles to search for lineage.

    Raises:
        BadInput: no reason. NotFound: a source that no plan holds.
        Conflict: a shard is damaged, or others kept changing the dataset meanwhile.
    """
    if not why.strip():
        raise BadInput("a removal needs a reason", fix="give --why TEXT")
    report = Removed()

    def work(now: Dataset) -> Callable[[Manifest], Manifest] | None:
        nonlocal report
        plans = {name: now.plan(name) for name in now.manifest.generations}
        gone = _named(plans, sources, now)
        report = _report(now, plans, gone, bundles)
        if dry_run:
            return None
        rewritten = [
            rewrite(now, name, extend(plan, (), drop=set(gone) & set(plan.sources)), whole=False)
            for name, plan in plans.items()
            if set(gone) & set(plan.sources)
        ]
        report.unfinished = [f"{one.name}/{shard}" for one in rewritten for shard in one.unfinished]
        removals = _removals(gone, why, now.manifest.number, (*report.features, *report.bundles))

        def change(latest: Manifest) -> Manifest:
            for one in rewritten:
                latest = one.apply(latest)
            arrivals = {name: number for name, number in latest.arrivals.items() if name not in gone}
            return latest.model_copy(update={"arrivals": arrivals, "removals": (*latest.removals, *removals)})

        return change

    return committed(dataset, work), report


def _named(plans: dict[str, Plan], wanted: Sequence[str], dataset: Dataset) -> dict[str, PlannedSource]:
    """The sources that are meant, and all others with the same bytes, by name in the plan."""
    everything = {name: source for plan in plans.values() for name, source in plan.sources.items()}
    digests = set()
    for text in wanted:
        found = {s.sha256 for s in everything.values() if text in (s.source, s.file, s.uri)}
        if not found:
            raise NotFound(
                f"{dataset.storage.root} holds no source {text!r}",
                fix=nearest(text, sorted({s.file for s in everything.values()})[:100]),
            )
        digests |= found
    return {name: source for name, source in sorted(everything.items()) if source.sha256 in digests}


def _removals(
    gone: dict[str, PlannedSource], why: str, number: int, seen_by: tuple[str, ...]
) -> tuple[Removal, ...]:
    when = time.strftime("%Y-%m-%d", time.gmtime())
    files = {(source.file, source.sha256): None for source in gone.values()}
    return tuple(
        Removal(source=file, sha256=sha256, why=why, when=when, manifest=number, seen_by=seen_by)
        for file, sha256 in files
    )


def _report(
    dataset: Dataset, plans: dict[str, Plan], gone: dict[str, PlannedSource], bundles: str | Path | None
) -> Removed:
    report = Removed(sources={name: source.sha256 for name, source in gone.items()})
    digests = {source.sha256 for source in gone.values()}
    manifest = dataset.manifest
    for generation, plan in plans.items():
        entries = manifest.generations[generation].shards
        for shard in plan.shards:
            if not any(span.source in gone for span in shard.spans):
                continue
            report.shards.append(f"{generation}/{shard.name}")
            if shard.name not in entries:
                continue
            with dataset.clips(shard.name, generation) as table:
                rows = pc.is_in(
                    table.column("source_sha256"), value_set=pa.array(sorted(digests), pa.string())
                )
                held = table.select(["num_frames"]).filter(rows)
                report.clips += held.num_rows
                report.frames += pc.sum(held.column("num_frames")).as_py() or 0
            report.bytes += entries[shard.name].bytes
            for features in manifest.features.values():
                if features.generation == generation and shard.name in features.shards:
                    report.bytes += features.shards[shard.name].bytes
                    if features.name not in report.features:
                        report.features.append(features.name)
    report.selections = sorted(manifest.selections)
    if bundles is not None:
        known = _digests_since(dataset, gone) | {name.partition("/")[2] for name in report.features}
        report.bundles = [bundle.name for bundle in find_bundles(bundles) if bundle.learned_from(known)]
    return report


def _digests_since(dataset: Dataset, gone: dict[str, PlannedSource]) -> set[str]:
    """What this dataset's content, and its feature sets, were called while it held the sources."""
    arrivals = dataset.manifest.arrivals
    first = min((arrivals.get(name, 0) for name in gone), default=0)
    known = set()
    for item in dataset.storage.list("manifests/"):
        if item.key < f"manifests/{first:08d}.json":
            continue
        try:
            manifest = parse(dataset.storage.get(item.key), item.key)
        except IfmdmError:  # pruned meanwhile, or of another format
            continue
        known |= {manifest.content, *(features.digest for features in manifest.features.values())}
    return known
