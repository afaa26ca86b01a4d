"""The typer app of `ifmdm data`."""

from __future__ import annotations

import typer

from pipelines.commands import extract, inspect, maintain

app = typer.Typer(
    name="data",
    help="Motion datasets: from raw videos to Arrow shards, on Ray.",
    no_args_is_help=True,
    add_completion=False,
)
for module in (extract, inspect, maintain):
    module.register(app)
