"""Finds the module of an `ifmdm jobs` sub-command and runs it; others are not imported. The entry is in infra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ifmdm_core.errors import BadInput, nearest

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("jobs.commands.init", "Make a store in a folder or bucket, and let tenants in"),
    "submit": ("jobs.commands.submit", "Hand in one job, or a manifest of hundreds of thousands"),
    "ls": ("jobs.commands.ls", "Jobs by state, label, age"),
    "show": ("jobs.commands.show", "One job, with everything that happened to it"),
    "why": ("jobs.commands.why", "What a waiting job waits for"),
    "watch": ("jobs.commands.watch", "Jobs as they go on, until they have ended"),
    "logs": ("jobs.commands.logs", "What an attempt wrote down"),
    "results": ("jobs.commands.results", "Rows of a manifest with state, output and error"),
    "cancel": ("jobs.commands.cancel", "End jobs"),
    "suspend": ("jobs.commands.suspend", "Hold jobs back"),
    "resume": ("jobs.commands.resume", "Let suspended jobs go on"),
    "retry": ("jobs.commands.retry", "Take up jobs again that failed or were cancelled"),
    "reprioritize": ("jobs.commands.reprioritize", "Give waiting jobs another priority"),
    "dead": ("jobs.commands.dead", "Jobs that were given up, by their fault"),
    "replay": ("jobs.commands.replay", "Take up dead jobs again, all of them or some"),
    "stats": ("jobs.commands.stats", "Queues, workers, times"),
    "cost": ("jobs.commands.cost", "Busy seconds by job and tenant"),
    "audit": ("jobs.commands.audit", "Who did what, and whether anybody changed the record of it"),
    "gc": ("jobs.commands.gc", "Remove what was kept long enough"),
    "fsck": ("jobs.commands.fsck", "Check every job, and mend what can be mended"),
    "doctor": ("jobs.commands.doctor", "Check the store, with a fix per fault"),
    "schema": ("jobs.commands.schema", "JSON Schema of a job"),
}
"""name -> (module with a typer `app`, help line). `work` is not among them: it needs more than this package."""

_USAGE = """Usage: ifmdm jobs COMMAND [OPTIONS]

Render jobs: a bucket, or a folder, is the queue, the record and the result.

Commands:
{commands}

The store is --root, or $IFMDM_JOBS; the tenant is --tenant, or $IFMDM_TENANT, or 'default'.
'ifmdm jobs COMMAND --help' for one command; docs/jobs.md for all of it."""


def run(
    commands: Mapping[str, tuple[str, str]], args: list[str], prog_name: str, standalone_mode: bool
) -> Any:
    """Runs one of these sub-commands. Raises BadInput for a word that is none."""
    if not args or args[0] in ("--help", "-h", "help"):
        print(help_text(commands))
        return 0
    name = args[0]
    if name not in commands:
        kind = "option" if name.startswith("-") else "command"
        raise BadInput(f"unknown {kind} {name!r}", fix=f"{nearest(name, commands)} (ifmdm jobs --help)")
    command = importlib.import_module(commands[name][0]).app
    return command(args=args[1:], prog_name=f"{prog_name} {name}", standalone_mode=standalone_mode)


def help_text(commands: Mapping[str, tuple[str, str]]) -> str:
    """What `ifmdm jobs --help` prints."""
    width = max(map(len, commands))
    return _USAGE.format(
        commands="\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in commands.items())
    )
