"""`ifmdm jobs cost`: busy seconds, and what they cost."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands.choosing import (
    BeforeOption,
    EverybodyOption,
    LabelOption,
    PrefixOption,
    SinceOption,
    StateOption,
    TextOption,
    which_of,
)
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
from jobs.commands.tables import print_table
from jobs.cost import BY
from jobs.cost import cost as cost_of
from jobs.listing import find

app = command_app()


@app.command()
def cost(
    by: Annotated[str, typer.Option("--by", metavar="GROUP", help=", ".join(BY))] = "tenant",
    gpu_hour: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0, help="of an hour in which a stage works")
    ] = None,
    states: StateOption = None,
    labels: LabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    prefix: PrefixOption = "",
    text: TextOption = "",
    as_json: JsonOption = False,
    everybody: EverybodyOption = False,
    root: RootOption = None,
    tenant: TenantOption = "default",
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Add up the working seconds of the model's stages, failed attempts included, the dearest group first.

    Each call to a stage counts with its share of the batch it was in, so groups add up to what the machines did.
    """
    store = open_store(root, tenant, endpoint, profile, role).store
    which = which_of(tenant, everybody, states, labels, since, before, prefix, text)
    groups = {name: found.as_dict(gpu_hour) for name, found in cost_of(find(store, which), by).items()}
    if as_json:
        print_json({"by": by, "gpu_hour": gpu_hour, "groups": groups})
        return
    stages = sorted({stage for values in groups.values() for stage in values["busy_s"]})
    heads = [by, "jobs", "video s", *(f"{stage} s" for stage in stages), "busy s"]
    rows = [
        [
            name or "(none)", values["jobs"], f"{values['video_s']:.1f}",
            *(f"{values['busy_s'].get(stage, 0.0):.1f}" for stage in stages), f"{values['busy_total_s']:.1f}",
            *([f"{values['price']:.4f}"] if gpu_hour is not None else []),
        ]
        for name, values in groups.items()
    ]  # fmt: skip
    print_table([*heads, *(["price"] if gpu_hour is not None else [])], rows)
