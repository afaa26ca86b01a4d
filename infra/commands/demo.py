"""`ifmdm demo`: the whole system at work on this machine; `demo render` and `demo train` need no stack."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.commands import demo as without_stack
from infra.commands.stack_options import HomeOption, home_option, interruptible, print_addresses, shown

if TYPE_CHECKING:
    from infra.stack.place import Place

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    home: HomeOption = None,
    data: Annotated[
        bool,
        typer.Option(
            "--data",
            help="walk from videos to a served model: clips, features, training, evaluation, promotion",
        ),
    ] = False,
) -> None:
    """Bring everything up, render two bundled jobs through the bucket, and say where all of it is.

    Again it takes seconds: what runs goes on, what is rendered stays. With --data a small model is trained, judged,
    promoted and served, step by step. It ends with ifmdm down.
    """
    if context.invoked_subcommand is not None:
        return
    from infra.stack.home import Home
    from infra.stack.settings import Asked
    from infra.stack.start import NotStarted, up

    interruptible()
    where, began = Home.find(home), time.monotonic()
    try:
        place = up(where, Asked(), Path.cwd())
    except NotStarted as error:
        print(error.tail, file=sys.stderr)
        raise
    up_s = time.monotonic() - began
    if data:
        from infra.stack.walk import walk

        walk(place, _near(where.folder / "demo"), lambda text: print(text, flush=True))
        print(f"\nVideo     {shown(where.folder / 'demo' / 'out.mp4')}")
    else:
        from infra.stack.demo_jobs import render_samples

        for video in render_samples(place):
            print(f"Video     {video.output}")
    print_addresses(place)
    print(_used(place, up_s, time.monotonic() - began))
    print(f"It stays up until: ifmdm down{home_option(where)}")


app.command("render")(without_stack.render)
app.command(
    "train",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(without_stack.train)


def _used(place: Place, up_s: float, seconds: float) -> str:
    """Minutes and gigabytes."""
    from infra.stack.look import rows

    memory = sum(row.memory_mb or 0 for row in rows(place) if row.pid is not None) / 1000
    parts = [f"{seconds / 60:.1f} min ({up_s / 60:.1f} to bring it up)", f"{memory:.1f} GB of memory"]
    if sys.prefix != sys.base_prefix:
        parts.append(f"{_disk_gb(Path(sys.prefix)):.1f} GB in {shown(Path(sys.prefix))}")
    parts.append(f"{_disk_gb(place.home.folder):.2f} GB in {shown(place.home.folder)}")
    return f"Used      {', '.join(parts)}"


def _disk_gb(folder: Path) -> float:
    total, open_ = 0, [str(folder)]
    while open_:
        with os.scandir(open_.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    open_.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total / 1e9


def _near(folder: Path) -> Path:
    return Path(shown(folder))
