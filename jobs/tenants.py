"""Tenants: what each may read, write, render with, and how much of the machines is theirs. tenants/<t>.json"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import validate
from ifmdm_core.errors import BadInput, Forbidden, NotFound, nearest
from ifmdm_core.storage import S3Config, Storage, open_storage
from ifmdm_core.uri import Uri
from jobs.names import FOLDERS, STORE, tenant_key


class ModelRef(BaseModel):
    """A bundle, pinned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(description="demo, a folder that every worker sees, or s3://bucket/prefix")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of its bundle.json")


class TenantPolicy(BaseModel):
    """Written by the operator; a tenant without one has no rights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[str, ...] = Field((), description="URI prefixes that portraits and audio may lie under")
    outputs: tuple[str, ...] = Field((), description="URI prefixes that videos may be published under")
    models: dict[str, ModelRef] = Field(
        default_factory=dict, description="what `model` of a job may say, and what it means today"
    )
    cap: int = Field(1_000_000, ge=0, description="jobs that may run at once; 0 holds all of them back")
    weight: float = Field(1.0, gt=0, le=1000, description="share of the machines, beside the others' weights")
    webhook_hosts: tuple[str, ...] = Field((), description="host names that `callback` may call")
    consent: Literal["optional", "required"] = Field(
        "optional", description="whether jobs need a reference to the shown person's consent"
    )

    def model(self, name: str) -> ModelRef:
        """The bundle a job means. Raises BadInput."""
        found = self.models.get(name)
        if found is None:
            raise BadInput(
                f"model is {name!r}, which is none of this tenant's", fix=nearest(name, self.models)
            )
        return found


def read_policy(storage: Storage, tenant: str) -> TenantPolicy:
    """What a tenant may do. Raises Forbidden for one that is not known, BadInput for a broken file."""
    try:
        data = storage.get(tenant_key(tenant))
    except NotFound:
        raise Forbidden(
            f"tenant {tenant!r} is not known to {storage.root}",
            fix=f"the operator writes {tenant_key(tenant)}: ifmdm jobs init --tenant {tenant}",
        ) from None
    return parse_policy(data, tenant)


def parse_policy(data: bytes, tenant: str) -> TenantPolicy:
    """The policy in a file's bytes. Raises BadInput naming the field."""
    try:
        values = json.loads(data)
    except ValueError as error:
        raise BadInput(f"{tenant_key(tenant)} is not JSON: {error}") from None
    return validate(TenantPolicy, values, tenant_key(tenant))


def keep_out(root: Uri, tenant: str, uri: str, field: str) -> None:
    """Raises Forbidden for what lies in the folders of the store at `root` itself, whatever a policy allows.

    Inputs may come from what the tenant has uploaded or dropped there.
    """
    named = Uri.parse(uri)
    if not named.inside(root):
        return
    if named.scheme == "s3":
        key = named.path.removeprefix(root.path.rstrip("/")).lstrip("/")
    else:
        key = str(Path(named.path).resolve().relative_to(Path(root.path).resolve()))
    parts = key.split("/")
    if parts[0] not in FOLDERS and parts[0] != STORE:
        return
    if field != "output" and parts[:2] in (["uploads", tenant], ["inbox", tenant]):
        return
    error = Forbidden(
        f"{field} is {uri!r}, inside of the job store's own {parts[0]!r}", fix="name a place beside it"
    )
    error.field = field
    raise error


class Places:
    """Opens what jobs name, within what their tenant may reach. Keeps what it has opened. For any number of threads.

    Args:
        s3: how buckets are reached.
    """

    def __init__(self, s3: S3Config | None = None) -> None:
        self._s3 = s3
        self._open: dict[str, Storage] = {}
        self._turn = threading.Lock()

    def at(self, uri: str, allowed: tuple[str, ...], field: str) -> tuple[Storage, str]:
        """The store and the key that `uri` means.

        Args:
            allowed: URI prefixes.
            field: of the job, for messages.

        Raises Forbidden outside of `allowed` (after links and `..` are resolved), BadInput, Unsupported for no URI.
        """
        named = Uri.parse(uri)
        for prefix in allowed:
            root = Uri.parse(prefix)
            if named.inside(root):
                base = root.path if named.scheme == "s3" else str(Path(root.path).resolve())
                path = named.path if named.scheme == "s3" else str(Path(named.path).resolve())
                key = path[len(base.rstrip("/")) :].lstrip("/")
                if key:
                    return self._storage(prefix), key
        error = Forbidden(
            f"{field} is {uri!r}, outside of what this tenant may use",
            fix=f"allowed: {', '.join(allowed) or 'nothing'}",
        )
        error.field = field
        raise error

    def _storage(self, prefix: str) -> Storage:
        with self._turn:
            if prefix not in self._open:
                self._open[prefix] = open_storage(prefix, self._s3)
            return self._open[prefix]
