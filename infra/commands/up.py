"""`ifmdm up`: the whole system on this machine, and it stays up until `ifmdm down`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.stack_options import HomeOption, JsonOption, interruptible, print_addresses

if TYPE_CHECKING:
    from infra.stack.start import Plan

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def up(
    home: HomeOption = None,
    s3: Annotated[
        bool | None,
        typer.Option(
            "--s3",
            help="the bucket is an S3 endpoint in memory (moto) instead of a folder: gone with ifmdm down",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, max=100, help="processes that work on render jobs; default: 1"),
    ] = None,
    serve: Annotated[
        Path | None,
        typer.Option("--serve", metavar="CONFIG", help="settings of the service, as for ifmdm serve"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="change one of them; repeatable"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything, say what would be started, start nothing")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start what does not run yet: Ray, the service with Studio, job workers, MLflow, the bucket.

    Everything is kept in one folder. Run again, it starts what is missing or dead. 'ifmdm status' looks at it,
    'ifmdm down' ends it.
    """
    from infra.stack.home import Home
    from infra.stack.look import rows
    from infra.stack.settings import Asked
    from infra.stack.start import NotStarted, plan
    from infra.stack.start import up as bring_up

    asked, where, began = Asked(s3, workers, serve, changes), Home.find(home), time.monotonic()
    if dry_run:
        _print_plan(plan(where, asked), as_json)
        return
    interruptible()
    try:
        place = bring_up(where, asked, Path.cwd())
    except NotStarted as error:
        print(error.tail, file=sys.stderr)
        raise
    if as_json:
        services = [row.plain() for row in rows(place)]
        told = {"home": str(where.folder), "environment": place.variables(), "services": services}
        print(json.dumps(told, indent=1))
        return
    print_addresses(place)
    print(f"Up after {time.monotonic() - began:.0f} s. ifmdm status looks at it, ifmdm down ends it.")


def _print_plan(todo: Plan, as_json: bool) -> None:
    services = [
        {"name": one.name, "title": one.title, "after": one.needs, "memory_mb": one.memory_mb}
        for one in todo.missing
    ]
    if as_json:
        print(json.dumps({"home": str(todo.place.home.folder), "would_start": services}, indent=1))
        return
    for one in todo.missing:
        after = f", after {' and '.join(one.needs)}" if one.needs else ""
        print(f"would start {one.name:<7} {one.title}: about {one.memory_mb / 1000:.1f} GB of memory{after}")
    print(f"in {todo.place.home.folder}" if services else "all of it runs")
