"""`ifmdm jobs gc`: remove what was kept long enough."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated

import typer

from jobs.audit import told_cleanup
from jobs.commands.choosing import OneTenantOption
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
from jobs.gc import IDEMPOTENCY_DAYS, KEEP_DAYS, Collector, Freed
from jobs.listing import READERS

app = command_app()


@app.command()
def gc(
    keep_days: Annotated[
        float, typer.Option(metavar="N", min=0, help="for which ended jobs keep logs, metrics and videos")
    ] = KEEP_DAYS,
    idempotency_days: Annotated[
        float,
        typer.Option(
            metavar="N", min=1, help="for which their records are kept after that, for resubmissions"
        ),
    ] = IDEMPOTENCY_DAYS,
    everything: Annotated[
        bool, typer.Option("--all", help="look at every job, not only where hints lead; uploads too")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do it; without this nothing is removed")] = False,
    tenant: OneTenantOption = None,
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Reduce ended jobs to their records, and forget records, by their age in the store's own clock.

    Says what it would remove, and removes it with --yes. Published outputs are never touched. May run at any time,
    several times at once, and be killed.
    """
    store = open_store(root, tenant or "default", endpoint, profile, role).store
    collector = Collector(store, keep_days=keep_days, idempotency_days=idempotency_days, dry_run=not yes)
    tenants, freed = None if tenant is None else [tenant], Freed()
    candidates = collector.everything(tenants) if everything else collector.due(tenants)
    with ThreadPoolExecutor(READERS, thread_name_prefix="gc") as pool:
        while batch := list(itertools.islice(candidates, 16 * READERS)):
            for found in pool.map(collector.clean, batch):
                freed.add(found)
    freed.add(collector.webhooks())
    if everything:
        freed.add(collector.uploads(tenants))
    if yes and freed.objects:
        told_cleanup(store, freed)
    if as_json:
        print_json({"dry_run": not yes, **asdict(freed)})
        return
    for problem in freed.problems:
        print(f"left alone  {plain(problem)}")
    print(_told(freed, yes))


def _told(freed: Freed, done: bool) -> str:
    verb = "removed" if done else "would remove"
    parts = [
        f"{freed.jobs} jobs reduced to their records" if freed.jobs else "",
        f"{freed.records} records forgotten" if freed.records else "",
        f"{freed.uploads} uploads" if freed.uploads else "",
        f"{freed.webhooks} webhooks given up" if freed.webhooks else "",
    ]
    told = ", ".join(part for part in parts if part)
    size = f"{freed.objects} objects, {freed.bytes / 1e6:.1f} MB"
    return f"{verb} {size}{f': {told}' if told else ''}" + ("" if done else "; --yes does it")
