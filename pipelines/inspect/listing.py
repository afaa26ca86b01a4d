"""What a dataset holds: generations of clips, feature sets and what made them, selections, refusals, removals."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from pipelines.dataset.dataset import Dataset
from pipelines.dataset.quarantine import all_records
from pipelines.dataset.selection import is_outdated, load_selection


def describe(dataset: Dataset) -> dict[str, Any]:
    """A JSON-able account of the latest manifest. Opens plans, selections and quarantine lists, no shard."""
    manifest = dataset.manifest
    records = all_records(dataset.storage, manifest)
    return {
        "dataset": str(dataset.storage.root),
        "manifest": manifest.number,
        "written": manifest.written,
        "content": manifest.content,
        "bytes": sum(file.bytes for file in manifest.files().values()),
        "generations": [_generation(dataset, name) for name in manifest.generations],
        "features": [_features(dataset, name) for name in sorted(manifest.features)],
        "selections": [_selection(dataset, name) for name in sorted(manifest.selections)],
        "quarantine": dict(Counter(f"{r.stage}: {r.reason}" for r in records).most_common()),
        "removals": [removal.model_dump() for removal in manifest.removals],
    }


def _generation(dataset: Dataset, name: str) -> dict[str, Any]:
    generation = dataset.manifest.generations[name]
    plan = dataset.plan(name)
    keys = plan.keys()
    entries = generation.shards.values()
    frames = sum(entry.frames for entry in entries)
    return {
        "generation": name,
        "current": name == dataset.manifest.current,
        "parameters": plan.parameters.model_dump(),
        "sources": len(plan.sources),
        "duplicate_sources": sum(source.duplicate_of is not None for source in plan.sources.values()),
        "planned_hours": sum(shard.seconds for shard in plan.shards) / 3600,
        "shards": len(generation.shards),
        "planned_shards": len(plan.shards),
        "shards_to_do": sum(
            name not in generation.shards or generation.shards[name].inputs != key
            for name, key in keys.items()
        ),
        "clips": sum(entry.rows for entry in entries),
        "frames": frames,
        "hours": frames / plan.parameters.fps / 3600,
        "bytes": sum(entry.bytes for entry in entries),
    }


def _features(dataset: Dataset, name: str) -> dict[str, Any]:
    features = dataset.manifest.features[name]
    clips = dataset.manifest.generations.get(features.generation)
    entries = features.shards.values()
    return {
        **features.model_dump(exclude={"shards"}),
        "shards": len(features.shards),
        "clip_shards": len(clips.shards) if clips else 0,
        "rows": sum(entry.rows for entry in entries),
        "holes": sum(entry.holes for entry in entries),
        "frames": sum(entry.frames for entry in entries),
        "bytes": sum(entry.bytes for entry in entries),
    }


def _selection(dataset: Dataset, name: str) -> dict[str, Any]:
    selection = load_selection(dataset, name)
    known = selection.generation in dataset.manifest.generations
    return {
        **selection.model_dump(exclude={"duplicates", "clips"}),
        "outdated": not known or is_outdated(dataset, selection),
    }


def show(account: dict[str, Any]) -> None:
    """Print an account as tables."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.commands.common import size_text

    # In a pipe there is no width to fit into, and names are to be found by grep.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in columns:
            text = column in ("name", "made by", "what")
            made.add_column(
                column, justify="left" if text else "right", overflow="fold", no_wrap=column == "name"
            )
        return made

    console.print(
        f"{account['dataset']}  manifest {account['manifest']}, {account['written']}, "
        f"{size_text(account['bytes'])}",
        soft_wrap=True,
    )
    clips = table("\nclips", "name", "shards", "to do", "sources", "clips", "hours", "size")
    for g in account["generations"]:
        clips.add_row(
            f"{g['generation']}{' (current)' if g['current'] else ''}", str(g["shards"]), str(g["shards_to_do"]),
            str(g["sources"]), f"{g['clips']:,}", f"{g['hours']:.2f}", size_text(g["bytes"]),
        )  # fmt: skip
    console.print(clips)
    if account["features"]:
        sets = table("\nfeatures", "name", "of", "shards", "dim", "holes", "size", "made by")
        for f in account["features"]:
            made_by = ", ".join(f"{key} {value}" for key, value in f["made_by"].items())
            sets.add_row(
                f"{f['kind']}/{f['digest']}", f["generation"], f"{f['shards']}/{f['clip_shards']}", str(f["dim"]),
                str(f["holes"]), size_text(f["bytes"]), f"{made_by or f['encoder'][:12]} ({f['created'][:10]})",
            )  # fmt: skip
        console.print(sets)
    if account["selections"]:
        chosen = table("\nselections", "name", "of", "kept", "left out", "what")
        for s in account["selections"]:
            kept = sum(n for reason, n in s["counts"].items() if reason.startswith("kept:"))
            chosen.add_row(
                s["name"], s["generation"], f"{kept:,}", f"{sum(s['counts'].values()) - kept:,}",
                "outdated: clips came or went, select again" if s["outdated"] else "",
            )  # fmt: skip
        console.print(chosen)
    if account["quarantine"]:
        refused = table("\nquarantine", "what", "records")
        for reason, count in account["quarantine"].items():
            refused.add_row(reason, f"{count:,}")
        console.print(refused)
    if account["removals"]:
        gone = table("\nremoved", "name", "what")
        for removal in account["removals"]:
            gone.add_row(removal["source"], f"{removal['why']} ({removal['when']})")
        console.print(gone)
