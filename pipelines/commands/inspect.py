"""`ifmdm data ls | select | verify | stats | diff | sample`: of the dataset only `select` and `--repair` write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.errors import BadInput, Conflict, NotFound
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
    from pipelines.dataset.manifest import FeatureSet
    from pipelines.dataset.selection import Selection

SelectionOption = Annotated[
    str | None, typer.Option("--selection", metavar="NAME", help="only clips that it takes")
]
MotionOption = Annotated[
    str | None,
    typer.Option(
        "--motion", metavar="DIGEST", help="motion set, its first digits; default: the newest, if any"
    ),
]

NAMED = 10
"""Damaged shards that an error names; the whole list is printed before it."""


def register(app: typer.Typer) -> None:
    """Add these commands to `ifmdm data`."""
    app.command("ls")(list_)
    for command in (select, verify, stats, diff, sample):
        app.command()(command)


def list_(
    dataset: DatasetArgument,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """What a dataset holds: clips, feature sets and what made them, selections, quarantine, removals."""
    from pipelines.inspect.listing import describe, show

    account = describe(_open(dataset, endpoint, profile, role))
    print_json(account) if as_json else show(account)


def select(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the selection", show_default=False)],
    minimum: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="COLUMN=VALUE", help="least value, e.g. face_size=96; -inf lifts one"),
    ] = None,
    maximum: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="COLUMN=VALUE", help="greatest value, e.g. head_motion=0.5"),
    ] = None,
    sound: Annotated[bool, typer.Option("--sound", help="only clips with sound")] = False,
    rights: Annotated[
        list[str] | None,
        typer.Option("--rights", metavar="TEXT", help="rights that may be used; may be repeated"),
    ] = None,
    heldout: Annotated[
        float, typer.Option("--heldout", min=0, max=1, help="share of the people held out")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="of who is held out")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count, write nothing")] = False,
    as_json: JsonOption = False,
    generation: GenerationOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Choose what is worth training on, by thresholds on columns; no video is opened.

    Prints what each threshold leaves out. The same name replaces a selection; readers that hold the old one keep it.
    """
    from pipelines.dataset.selection import build_selection, save_selection

    opened = _open(dataset, endpoint, profile, role)
    selection = build_selection(
        opened,
        name,
        minimum=_values(minimum, "--min"),
        maximum=_values(maximum, "--max"),
        needs_sound=sound,
        rights=rights or (),
        heldout_share=heldout,
        seed=seed,
        generation=generation,
    )
    if not dry_run:
        save_selection(opened, selection)
    if as_json:
        print_json(selection.model_dump(exclude={"duplicates"}))
        return
    total = sum(selection.counts.values())
    for reason, count in sorted(
        selection.counts.items(), key=lambda pair: (pair[0].startswith("kept:"), pair[0])
    ):
        print(f"{count:>10,}  {count / max(1, total):>6.1%}  {reason.replace('kept:', 'kept, ')}")
    for folder, offset in selection.offsets.items():
        print(f"{folder}: sound {offset:+.2f} s late")


def verify(
    dataset: DatasetArgument,
    quick: Annotated[bool, typer.Option("--quick", help="shards: only existence and size")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="un-list what is damaged; the next run makes it again")
    ] = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Check every listed file: there, size, sha256, schema, rows, unique ids, features row by row.

    Exits with 5 where something is damaged and not repaired.
    """
    from pipelines.inspect.repair import repair as unlist
    from pipelines.inspect.verify import verify as check

    opened = _open(dataset, endpoint, profile, role)
    report = check(opened, quick)
    if as_json:
        print_json({**report.as_dict(), "repaired": repair and bool(report.damage)})
    else:
        for damage in report.damage:
            print(f"damaged     {damage.name}: {damage.what}")
        for line in report.unfinished:
            print(f"unfinished  {line}")
        how = "sizes of" if quick else "checked"
        print(f"{how} {report.files:,} files, {size_text(report.bytes)}, {report.rows:,} clips read")
    if report.damage and repair:
        unlist(opened, report.damage)
        print(f"un-listed {len(report.damage)}; run data clips and data features again", file=sys.stderr)
    elif report.damage:
        names = ", ".join(damage.name for damage in report.damage[:NAMED])
        more = f" and {len(report.damage) - NAMED} more" if len(report.damage) > NAMED else ""
        raise Conflict(f"damaged: {names}{more}", fix="ifmdm data verify --repair, then run again")


def stats(
    dataset: DatasetArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="write a page with charts and tables")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--png", metavar="FILE.png", help="write the charts")
    ] = None,
    selection: SelectionOption = None,
    motion: MotionOption = None,
    as_json: JsonOption = False,
    generation: GenerationOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Counts, hours, people, rights, splits, quality and motion, as text, page, picture or JSON."""
    from ifmdm_core.media.files import published
    from pipelines.inspect.stats import compute_stats

    opened = _open(dataset, endpoint, profile, role)
    chosen = _selection(opened, selection)
    found = compute_stats(opened, generation, chosen, _motion(opened, motion, generation, chosen))
    if out or picture:
        from pipelines.inspect.report import page, png

        for path, data in ((out, lambda: page(found).encode()), (picture, lambda: png(found))):
            if path:
                with published(path) as temporary:
                    temporary.write_bytes(data())
    if as_json:
        print_json(found.as_dict())
        return
    print(
        f"{found.clips:,} clips, {found.hours:.3f} h, {found.sources:,} sources, {found.silent_clips:,} silent"
    )
    for group, values in found.groups.items():
        shown = [f"{value} {clips:,} ({hours:.3f} h)" for value, (clips, hours) in list(values.items())[:8]]
        more = f", {len(values) - 8:,} more" if len(values) > 8 else ""
        print(f"{group:<13} {', '.join(shown)}{more}")
    for column, histogram in found.quality.items():
        if histogram["percentiles"]:
            low, _, middle, _, high = histogram["percentiles"]
            print(f"{column:<13} {middle:.4g} ({low:.4g} to {high:.4g} hold nine tenths)")


def diff(
    dataset: DatasetArgument,
    first: Annotated[str, typer.Argument(metavar="A", help="motion set, first digits", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="another one", show_default=False)],
    worst: Annotated[int, typer.Option("--worst", min=0, help="clips to name")] = 10,
    as_json: JsonOption = False,
    generation: GenerationOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """How far two motion sets are apart: plainly, by the best linear map, and in which clips most."""
    from pipelines.inspect.diff import diff_motion, show

    opened = _open(dataset, endpoint, profile, role)
    sets = [opened.features("motion", digest, generation) for digest in (first, second)]
    found = diff_motion(opened, sets[0], sets[1], worst)
    print_json(found.as_dict()) if as_json else show(found)


def sample(
    dataset: DatasetArgument,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help=".jpg or .png: a sheet; .mp4: a silent video"),
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="clips")] = 8,
    seed: Annotated[int, typer.Option(help="of the choice")] = 0,
    split: Annotated[str | None, typer.Option("--split", help="only this split")] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="only this person")] = None,
    source: Annotated[
        str, typer.Option("--source", metavar="PATTERN", help="only sources of such names, e.g. 'news/*'")
    ] = "*",
    selection: SelectionOption = None,
    motion: MotionOption = None,
    side: Annotated[int | None, typer.Option("--side", min=32, help="pixels of one picture")] = None,
    generation: GenerationOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Look at some clips with their motion drawn beside or below them."""
    from pipelines.inspect.sample import pick, write_sample

    if output.suffix.lower() not in (".jpg", ".jpeg", ".png", ".mp4"):
        raise BadInput(f"{output}: cannot write this kind of file", fix="name it .jpg, .png or .mp4")
    opened = _open(dataset, endpoint, profile, role)
    chosen = _selection(opened, selection)
    clips = pick(
        opened,
        count,
        seed,
        motion=_motion(opened, motion, generation, chosen),
        selection=chosen,
        split=split,
        identity=identity,
        source=source,
        generation=generation,
    )
    write_sample(output, clips, side)
    print(f"{output}: {len(clips)} clips")


def _selection(dataset: Dataset, name: str | None) -> Selection | None:
    from pipelines.dataset.selection import load_selection

    return load_selection(dataset, name) if name else None


def _motion(
    dataset: Dataset, digest: str | None, generation: str | None, selection: Selection | None
) -> FeatureSet | None:
    """The named motion set, or the newest; None where none is named and there is none."""
    try:
        return dataset.features("motion", digest, generation or (selection.generation if selection else None))
    except NotFound:
        if digest:
            raise
        return None


def _open(uri: str, endpoint: str | None, profile: str | None, role: str | None) -> Dataset:
    from pipelines.dataset.dataset import Dataset

    return Dataset.open(uri, s3_config(endpoint, profile, role))


def _values(pairs: list[str] | None, option: str) -> dict[str, float]:
    """`["face_size=96"]` as numbers by column."""
    values = {}
    for pair in pairs or ():
        column, _, text = pair.partition("=")
        try:
            values[column] = float(text)
        except ValueError:
            raise BadInput(
                f"{option} {pair!r} is no COLUMN=NUMBER", fix=f"e.g. {option} face_size=96"
            ) from None
    return values
