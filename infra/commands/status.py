"""`ifmdm status`: how the stack of this folder is. Exit code 0: well; 75: not all of it; 3: nothing was started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ifmdm_core.errors import NotFound, Unavailable
from infra.commands.stack_options import HomeOption, JsonOption, shown

if TYPE_CHECKING:
    from infra.stack.look import Row

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show each service of the stack: health, address, process, memory.

    The exit code tells: 0 all is well, 75 something is not, 3 nothing was started here.
    """
    from infra.stack.home import Home
    from infra.stack.look import rows
    from infra.stack.place import Place
    from infra.stack.settings import serve_config

    where = Home.find(home)
    state = where.read()
    if state is None:
        if as_json:
            print(json.dumps({"home": str(where.folder), "healthy": False, "services": []}, indent=1))
            raise typer.Exit(NotFound.exit_code)
        raise NotFound(f"nothing runs in {shown(where.folder)}", fix="ifmdm up starts it")
    found = rows(Place(where, state, serve_config(where, state.settings)))
    healthy = all(row.health == "ready" for row in found)
    if as_json:
        services = [row.plain() for row in found]
        print(json.dumps({"home": str(where.folder), "healthy": healthy, "services": services}, indent=1))
    else:
        _print(found, where.logs)
    if not healthy:
        raise typer.Exit(Unavailable.exit_code)


def _print(found: list[Row], logs: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("service", "health", "address", "pid", "up", "memory"):
        table.add_column(name, overflow="fold")
    colours = {"ready": "green", "ill": "yellow", "dead": "red"}
    for row in found:
        health = f"[{colours[row.health]}]{row.health}[/]" + (f": {row.why}" if row.why else "")
        memory = f"{row.memory_mb / 1000:.2f} GB" if row.memory_mb is not None else ""
        up = f"{row.up_s / 60:.1f} min" if row.up_s is not None else ""
        table.add_row(row.name, health, row.address, str(row.pid or ""), up, memory)
    Console().print(table)
    print(f"logs in {shown(logs)}")
