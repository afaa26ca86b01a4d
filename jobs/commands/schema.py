"""`ifmdm jobs schema`: what a job may hold, for editors and other languages."""

from __future__ import annotations

from jobs.commands.options import command_app, print_json
from jobs.spec import json_schema

app = command_app()


@app.command()
def schema() -> None:
    """Print the JSON Schema of a job."""
    print_json(json_schema())
