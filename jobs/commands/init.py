"""`ifmdm jobs init ROOT`: the operator makes a store, and lets tenants in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ifmdm_core.config import validate
from ifmdm_core.storage import open_storage
from ifmdm_core.uri import Uri
from jobs.client import user_name
from jobs.commands.options import (
    ROOT,
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    TenantOption,
    command_app,
    print_json,
    s3_config,
)
from jobs.init import first_policy, let_in, make_store, parse_model
from jobs.names import check_tenant, tenant_key
from jobs.store import JobStore
from jobs.tenants import TenantPolicy

app = command_app()


@app.command()
def init(
    root: Annotated[
        str,
        typer.Argument(metavar="ROOT", help="folder or s3://bucket/prefix", envvar=ROOT, show_default=False),
    ],
    tenant: TenantOption = "default",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-input", metavar="PREFIX", help="where its portraits and audio may lie; repeatable"
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--allow-output", metavar="PREFIX", help="where its videos may go; repeatable"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=URI[@SHA256]",
            help="a bundle that its jobs may name; pinned now; repeatable",
        ),
    ] = None,
    cap: Annotated[int | None, typer.Option(min=0, metavar="N", help="jobs that may run at once")] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="X", help="share of the machines beside the others' weights")
    ] = None,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--webhook-host", metavar="NAME", help="host that callbacks may go to; repeatable"),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(
            metavar="optional|required", help="whether jobs need a reference to the shown person's consent"
        ),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="write a damaged _store.json again")] = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> None:
    """Make ROOT a job store, if it is none, and give a tenant rights beside those it has.

    The first time, the tenant 'default' may read and write in the store's bucket (for a folder: here and there), others
    only what they upload, until more is allowed; all may use the bundled model. To take rights away, edit the file that
    is named. A store that cannot do what jobs stand on is refused.
    """
    from jobs.probe import probe

    check_tenant(tenant)
    s3 = s3_config(endpoint, profile, role)
    storage = open_storage(root, s3)
    given: dict[str, Any] = {
        "inputs": _whole(inputs), "outputs": _whole(outputs), "cap": cap, "weight": weight,
        "models": dict(parse_model(text, s3) for text in models) if models else None,
        "webhook_hosts": tuple(hosts) if hosts else None, "consent": consent,
    }  # fmt: skip
    change = validate(TenantPolicy, {name: value for name, value in given.items() if value is not None})
    warnings = probe(storage).warnings
    store = JobStore(storage, user_name())
    made = make_store(store, repair)
    policy, changed = let_in(store, tenant, change, first_policy(storage.root, tenant, Path.cwd()))
    if as_json:
        print_json(
            {
                "root": str(storage.root),
                "made": made,
                "tenant": tenant,
                "changed": changed,
                "policy": policy.model_dump(mode="json"),
                "warnings": list(warnings),
            }
        )
        return
    print(f"{storage.root} {'is a job store now' if made else 'is a job store'}")
    print(f"tenant {tenant} ({tenant_key(tenant)}{'' if changed else ', unchanged'})")
    print(f"  inputs   {', '.join(policy.inputs) or 'none: give --allow-input'}")
    print(f"  outputs  {', '.join(policy.outputs) or 'none: give --allow-output'}")
    if policy.consent == "required":
        print("  consent  required")
    print(f"  models   {', '.join(f'{name} ({model.sha256[:12]})' for name, model in policy.models.items())}")
    for warning in warnings:
        print(f"warning: {warning}")


def _whole(prefixes: list[str] | None) -> tuple[str, ...] | None:
    """URIs that mean the same on every machine."""
    if not prefixes:
        return None
    uris = map(Uri.parse, prefixes)
    return tuple(str(uri) if uri.scheme == "s3" else str(Path(uri.path).absolute()) for uri in uris)
