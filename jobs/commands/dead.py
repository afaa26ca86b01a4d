"""`ifmdm jobs dead`: what was given up, by its fault."""

from __future__ import annotations

import itertools
import sys
from collections import Counter

from jobs.commands.choosing import (
    BeforeOption,
    EverybodyOption,
    LabelOption,
    PrefixOption,
    SinceOption,
    TextOption,
    which_of,
)
from jobs.commands.ls import LimitOption
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    TenantOption,
    command_app,
    open_store,
    print_json,
)
from jobs.commands.tables import plain, print_table
from jobs.commands.times import span
from jobs.entries import State
from jobs.listing import find

STATES: frozenset[State] = frozenset(("dead",))

app = command_app()


@app.command()
def dead(
    labels: LabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    prefix: PrefixOption = "",
    text: TextOption = "",
    limit: LimitOption = 200,
    as_json: JsonOption = False,
    everybody: EverybodyOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """List jobs that were given up after all their tries, and how often each fault is among them.

    'ifmdm jobs replay' takes them up again, 'ifmdm jobs logs ID' says more of one.
    """
    store = open_store(root, tenant, endpoint, profile, role).store
    which = which_of(tenant, everybody, None, labels, since, before, prefix, text, STATES)
    found = list(itertools.islice(find(store, which), limit + 1))
    more, found = len(found) > limit, found[:limit]
    if as_json:
        print_json({"jobs": [job.summary() for job in found], "more": more})
        return
    now, rows, faults = store.clock.now(), [], Counter[str]()
    for job in found:
        values, fault = job.summary(), job.view.state.fault
        what = fault.what if fault is not None else "?"
        faults[fault.kind if fault is not None else "?"] += 1
        tries = f"{values['attempts']} failed, {values['losses']} lost"
        rows.append((values["id"], span(max(0.0, now - values["since"])), tries, values["output"], what))
    print_table(("id", "for", "attempts", "output", "note"), rows)
    for kind, count in faults.most_common():
        print(f"ifmdm: {count} x {plain(kind)}", file=sys.stderr)
    if more:
        print(f"ifmdm: there are more than {limit}; --limit shows them", file=sys.stderr)
