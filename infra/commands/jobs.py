"""`ifmdm jobs`: the commands of the jobs package, and `work`, which puts workers and stages together."""

from __future__ import annotations

from typing import Any

from jobs.commands import app as jobs_app

_FIRST = ("init", "submit")
COMMANDS: dict[str, tuple[str, str]] = {
    **{name: jobs_app.COMMANDS[name] for name in _FIRST},
    "work": ("infra.commands.jobs_work", "Render what is waiting, on this machine or a Ray cluster"),
    **{name: row for name, row in jobs_app.COMMANDS.items() if name not in _FIRST},
    "deny": ("infra.commands.jobs_deny", "Portraits that nobody may animate: add, ls, rm"),
}
"""name -> (module with a typer `app`, help line)."""


def app(args: list[str], prog_name: str, standalone_mode: bool) -> Any:
    """The command's entry. Raises BadInput for a word that is none."""
    return jobs_app.run(COMMANDS, args, prog_name, standalone_mode)
