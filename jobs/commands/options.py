"""Options that the `ifmdm jobs` commands share, and the store that they open."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ifmdm_core.commands.s3_options import EndpointOption, ProfileOption, RoleOption, s3_config
from ifmdm_core.errors import BadInput
from ifmdm_core.storage import S3Config, open_storage
from jobs.client import user_name
from jobs.names import check_tenant
from jobs.store import JobStore
from jobs.tenants import Places

__all__ = [
    "ROOT",
    "EndpointOption",
    "JsonOption",
    "Opened",
    "ProfileOption",
    "RoleOption",
    "RootOption",
    "TenantOption",
    "command_app",
    "named_root",
    "open_store",
    "print_json",
    "s3_config",
]

ROOT = "IFMDM_JOBS"
"""Environment variable with the store's root."""

RootOption = Annotated[
    str | None,
    typer.Option(
        "--root", metavar="ROOT", help=f"the store: a folder or s3://bucket/prefix; default: ${ROOT}"
    ),
]
TenantOption = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="whose jobs", envvar="IFMDM_TENANT", show_envvar=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def command_app() -> typer.Typer:
    """A typer app as every sub-command has one."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Opened:
    """A job store, and who looks at it."""

    store: JobStore
    places: Places
    tenant: str
    s3: S3Config


def open_store(
    root: str | None,
    tenant: str = "default",
    endpoint: str | None = None,
    profile: str | None = None,
    role: str | None = None,
) -> Opened:
    """The store that a command is about.

    Raises BadInput where none is named, NotFound where there is none, Unsupported for one of another version.
    """
    check_tenant(tenant)
    s3 = s3_config(endpoint, profile, role)
    store = JobStore(open_storage(named_root(root), s3), user_name())
    store.check_layout()
    return Opened(store, Places(s3), tenant, s3)


def named_root(root: str | None) -> str:
    """The store's root, from the option or the environment. Raises BadInput where neither names one."""
    named = root or os.environ.get(ROOT)
    if not named:
        raise BadInput("no job store is named", fix=f"give --root, or set ${ROOT}; ifmdm jobs init makes one")
    return named


def print_json(value: Any) -> None:
    """A result for machines: one JSON document on stdout, nothing else."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
