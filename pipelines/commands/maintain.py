"""`ifmdm data prune | reshard | remove | quarantine`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.common import (
    DatasetArgument,
    EndpointOption,
    GenerationOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    print_json,
    s3_config,
    size_text,
)

if TYPE_CHECKING:
    from pipelines.dataset.dataset import Dataset

SHOWN = 20
"""Lines of a list before the rest is only counted."""

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="say what would be done, write nothing")]
BundlesOption = Annotated[
    Path | None, typer.Option("--bundles", metavar="FOLDER", help="where your model bundles are")
]


def register(app: typer.Typer) -> None:
    """Add these commands to `ifmdm data`."""
    for command in (prune, reshard, remove, quarantine):
        app.command()(command)


def prune(
    dataset: DatasetArgument,
    dry_run: DryRunOption = False,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="DIGEST", help="a feature set to keep; repeatable")
    ] = None,
    bundles: BundlesOption = None,
    generations: Annotated[
        list[str] | None,
        typer.Option("--generation", metavar="NAME", help="an old generation of clips to delete; repeatable"),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="age of unlisted files; 0 takes all")
    ] = 3600.0,
    keep_manifests: Annotated[
        int, typer.Option("--keep-manifests", metavar="N", min=1, help="newest manifests to keep")
    ] = 20,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Delete feature sets that nothing needs, and files that no manifest lists.

    The newest set of each kind stays, and those that a bundle in --bundles was trained on. --grace 0 is safe only
    while nobody writes to the dataset.
    """
    from pipelines.maintain.prune import prune as run

    pruned = run(
        _open(dataset, endpoint, profile, role), keep=keep or (), bundles=bundles, generations=generations or (),
        grace_s=grace, keep_manifests=keep_manifests, dry_run=dry_run,
    )  # fmt: skip
    if as_json:
        print_json({**asdict(pruned), "bytes": pruned.bytes, "dry_run": dry_run})
        return
    for name, size in pruned.generations.items():
        print(f"generation {name}  {size_text(size)} of clips")
    for name, size in pruned.sets.items():
        print(f"{name}  {size_text(size)}")
    _few([f"  {key}  {size_text(size)}" for key, size in pruned.files.items()], "files")
    says = "would be deleted" if dry_run else "deleted"
    print(
        f"{len(pruned.files)} files, {size_text(pruned.bytes)}, and {pruned.manifests} old manifests {says}"
    )
    if pruned.waiting:
        print(f"{pruned.waiting} more files are unlisted, but for less than {grace:g} s")


def reshard(
    dataset: DatasetArgument,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="seconds of video in a shard")
    ] = None,
    megabytes: Annotated[
        float | None, typer.Option("--megabytes", min=0.001, help="or: size of a clip shard, 10^6 bytes")
    ] = None,
    generation: GenerationOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Move clips and features into larger or smaller shards. No video is decoded, no model runs."""
    from pipelines.maintain.reshard import reshard as run

    _, done = run(
        _open(dataset, endpoint, profile, role),
        seconds=seconds, megabytes=megabytes, generation=generation, dry_run=dry_run,
    )  # fmt: skip
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
        return
    says = "would be" if dry_run else "are"
    print(
        f"{done.before} shards of generation {done.generation} {says} {done.after} of {done.seconds:g} s of video "
        f"({size_text(done.bytes)} of clips)"
    )
    if not dry_run:
        print("the old shards go with `ifmdm data prune`")


def remove(
    dataset: DatasetArgument,
    source: Annotated[
        list[str], typer.Option("--source", metavar="URI", help="name of the source, or its URI; repeatable")
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="reason, kept in the manifest")],
    bundles: BundlesOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Take a source out: its clips, their features, and any other source with the same content.

    It is refused when it comes again. Says which feature sets, and which bundles in --bundles, were made with it.
    """
    from pipelines.maintain.remove import remove as run

    _, removed = run(_open(dataset, endpoint, profile, role), source, why, bundles=bundles, dry_run=dry_run)
    if as_json:
        print_json({**asdict(removed), "why": why, "dry_run": dry_run})
        return
    says = "would be removed" if dry_run else "removed"
    for name, sha256 in removed.sources.items():
        print(f"{name}  sha256 {sha256[:12]}")
    print(
        f"{removed.clips} clips, {removed.frames} frames {says}; {len(removed.shards)} clip shards written anew"
    )
    for kind, names in (("in", removed.features), ("seen by", removed.bundles)):
        for name in names:
            print(f"{kind} {name}")
    if bundles is None:
        print("bundles were not searched: give --bundles FOLDER")
    if removed.unfinished:
        print(f"run `ifmdm data clips` to make these whole again: {', '.join(removed.unfinished)}")
    if removed.selections:
        print(f"make these selections again: {', '.join(removed.selections)}")
    if not dry_run:
        print(
            f"{size_text(removed.bytes)} of old files still hold it: ifmdm data prune deletes them after an hour, "
            "with --grace 0 --keep-manifests 1 at once"
        )


def quarantine(
    dataset: DatasetArgument,
    by: Annotated[
        str, typer.Option("--by", help="group by reason, stage or folder; none lists all")
    ] = "reason",
    reason: Annotated[str | None, typer.Option("--reason", help="only these, e.g. 'no face'")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="only this source, or folder of sources")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="only from probe, clips, speech or motion")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="forget them: the next run of clips or features looks again")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Refused content and why; --retry has it looked at again."""
    from ifmdm_core.errors import BadInput, nearest
    from pipelines.maintain.quarantine import Wanted, grouped, listed
    from pipelines.maintain.quarantine import retry as run

    choices = ("reason", "stage", "folder", "none")
    if by not in choices:
        raise BadInput(f"--by {by!r}", fix=nearest(by, choices))
    opened, wanted = _open(dataset, endpoint, profile, role), Wanted(reason, source, stage)
    records = run(opened, wanted, dry_run)[1] if retry else listed(opened, wanted)
    if as_json:
        print_json([record.model_dump(mode="json", exclude_none=True) for record in records])
        return
    if by == "none":
        for record in records:
            span = f" {record.span[0]:g}-{record.span[1]:g} s" if record.span else ""
            print(f"{record.stage}  {record.source}{span}: {record.reason} ({record.detail or 'no detail'})")
    else:
        for group in grouped(records, by):  # type: ignore[arg-type]
            example = group.example.detail or group.example.source
            print(f"{group.count:6}  {group.name}  ({group.sources} sources; e.g. {example})")
    print(f"{len(records)} refusals" + (" would be forgotten" if retry and dry_run else ""))
    if retry and not dry_run:
        print("forgotten: run `ifmdm data clips` and `ifmdm data features` again")


def _few(lines: list[str], what: str) -> None:
    print(
        "\n".join([*lines[:SHOWN], *([f"  ... {len(lines) - SHOWN} more {what}"] if lines[SHOWN:] else [])])
    )


def _open(dataset: str, endpoint: str | None, profile: str | None, role: str | None) -> Dataset:
    from ifmdm_core.errors import NotFound
    from pipelines.dataset.dataset import Dataset
    from pipelines.dataset.manifest import latest
    from pipelines.run.patient_storage import PatientStorage

    storage = PatientStorage.open(
        dataset, s3_config(endpoint, profile, role), lambda cause: print(cause, file=sys.stderr)
    )
    opened = Dataset(storage, latest(storage))
    if opened.manifest.number < 0:
        raise NotFound(f"{dataset} is no dataset: it has no manifests", fix="check the path")
    return opened
