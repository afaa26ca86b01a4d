"""`ifmdm jobs fsck`: check every job, and mend what can be mended."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ifmdm_core.errors import Conflict
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    command_app,
    open_store,
    print_json,
)
from jobs.commands.tables import plain
from jobs.fsck import Fsck
from jobs.sweeper import Sweeper

app = command_app()


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="mend hints; logs are never touched")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="as workers do every hour: read no more than is needed")
    ] = False,
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> int:
    """Read every job, log and right to publish; say what is not as it should be, and mend what can be mended.

    Exit code 0 when nothing is left to mend or to look at, 5 otherwise.
    """
    opened = open_store(root, "default", endpoint, profile, role)
    report = Fsck(opened.store, opened.places, mend=repair, deep=not quick).run()
    swept = Sweeper(opened.store, opened.places).sweep() if repair else None
    if as_json:
        print_json(
            {
                "jobs": report.jobs,
                "findings": [asdict(finding) for finding in report.findings],
                "swept": asdict(swept) if swept is not None else None,
            }
        )
    else:
        for finding in report.findings:
            print(
                f"{'mended' if finding.mended else 'found '}  {plain(finding.where)}: {plain(finding.what)}"
            )
        for problem in swept.problems if swept is not None else ():
            print(f"found   {plain(problem)}")
        if swept is not None and swept.lost + swept.settled + swept.due:
            print(
                f"swept   {swept.lost} lost workers' jobs, {swept.settled} settled, {swept.due} whose time has come"
            )
        print(f"{report.jobs} jobs, {len(report.findings)} findings, {len(report.left)} left")
        if report.left and not repair:
            print("--repair mends missing and stale hints; what it cannot mend it leaves as it is")
    return Conflict.exit_code if report.left else 0
