"""`ifmdm down`: ends what `ifmdm up` started, and nothing else."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from infra.commands.stack_options import HomeOption, shown

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def down(
    home: HomeOption = None,
    data: Annotated[
        bool,
        typer.Option(
            "--data", help="remove its data too: jobs, videos, MLflow's runs, registered models, logs"
        ),
    ] = False,
) -> None:
    """End the stack of this folder; its data stay. Again, or after a crash, it does no harm."""
    from infra.stack.ending import end_stack
    from infra.stack.home import Home

    where, began = Home.find(home), time.monotonic()
    if not where.folder.is_dir():
        print(f"no stack in {shown(where.folder)}")
        return
    with where.locked():
        state = where.read()
        if state is None:
            print(f"nothing runs in {shown(where.folder)}")
        else:
            left = end_stack(where, state, lambda name: print(f"{name} ended", file=sys.stderr, flush=True))
            killed = f"; {left} processes that were left over were killed" if left else ""
            print(f"Down after {time.monotonic() - began:.0f} s{killed}")
        if data:
            where.remove_data()
            print(f"{shown(where.folder)}: its data are removed")
        elif state is not None:
            print(f"Data stay in {shown(where.folder)} (ifmdm down --data removes them)")
