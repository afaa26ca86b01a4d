"""`ifmdm data ls | select | verify | stats | diff | sample`: they look, and only `select` and `--repair` write."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.errors import BadInput, Conflict
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

NAMED = 10
"""Damaged shards that an error names; the whole list is printed before it."""


def register(app: typer.Typer) -> None:
    """Add these commands to `ifmdm data`."""
    app.command("ls")(list_)
    for command in (select, verify):
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
        print(f"{folder}: sound {abs(offset):.2f} s {'late' if offset >= 0 else 'early'}")


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
