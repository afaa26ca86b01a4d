"""What `ifmdm jobs doctor` looks at, one finding each, with a fix per fault."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ifmdm_core.errors import IfmdmError, NotFound, Unsupported
from ifmdm_core.samples import DEMO
from ifmdm_core.storage import S3Config, Storage, open_storage
from jobs.client import user_name
from jobs.heartbeat import TAKEOVER_S
from jobs.names import tenant_key
from jobs.probe import probe
from jobs.store import JobStore
from jobs.tenants import ModelRef, TenantPolicy, keep_out, parse_policy

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line."""

    name: str
    status: Status
    found: str
    fix: str = ""


def check_store(root: str, s3: S3Config | None = None) -> list[Finding]:
    """All findings; what cannot be looked at is one itself. Writes and removes objects under probe/ only."""
    try:
        storage = open_storage(root, s3)
        JobStore(storage, user_name()).check_layout()
    except IfmdmError as error:
        return [Finding("store", "fail", error.what, error.fix)]
    findings = [Finding("store", "ok", f"{storage.root} is a job store")]
    for check in (_probed, _tenants, _workers):
        try:
            findings += check(storage, s3)
        except IfmdmError as error:
            findings.append(Finding(check.__name__.strip("_"), "fail", error.what, error.fix))
    return findings


def _probed(storage: Storage, s3: S3Config | None) -> Iterator[Finding]:
    try:
        found = probe(storage)
    except Unsupported as error:
        yield Finding("guarantees", "fail", error.what, error.fix)
        return
    yield Finding("guarantees", "ok", "of racing writers of a key one wins; listings and ages can be trusted")
    for warning in found.warnings:
        yield Finding("guarantees", "warn", warning)


def _tenants(storage: Storage, s3: S3Config | None) -> Iterator[Finding]:
    names = [item.key.removeprefix("tenants/").removesuffix(".json") for item in storage.list("tenants/")]
    if not names:
        yield Finding(
            "tenants", "fail", "there are none, so nobody may submit", "ifmdm jobs init --tenant NAME"
        )
    for tenant in names:
        name = f"tenant {tenant}"
        try:
            policy = parse_policy(storage.get(tenant_key(tenant)), tenant)
        except IfmdmError as error:
            yield Finding(
                name, "fail", error.what, error.fix or f"mend {storage.root.join(tenant_key(tenant))}"
            )
            continue
        faults = list(_policy(storage, tenant, policy, s3))
        yield from (Finding(name, *fault) for fault in faults)
        if not faults:
            yield Finding(
                name, "ok", f"models {', '.join(policy.models)}; cap {policy.cap}, weight {policy.weight:g}"
            )


Fault = tuple[Status, str, str]


def _policy(storage: Storage, tenant: str, policy: TenantPolicy, s3: S3Config | None) -> Iterator[Fault]:
    where = tenant_key(tenant)
    if not policy.outputs:
        yield "warn", "may write nowhere", f"ifmdm jobs init --tenant {tenant} --allow-output PREFIX"
    if not policy.models:
        yield "warn", "has no model", f"ifmdm jobs init --tenant {tenant} --model demo=demo"
    if policy.cap == 0:
        yield "warn", "its cap is 0: its jobs wait", f"raise cap in {where}"
    for prefix in dict.fromkeys((*policy.inputs, *policy.outputs)):
        if (fault := _place(storage, tenant, prefix, prefix in policy.outputs, s3)) is not None:
            yield fault
    for name, model in policy.models.items():
        if (fault := _model(name, model, s3)) is not None:
            yield fault


def _place(storage: Storage, tenant: str, prefix: str, written: bool, s3: S3Config | None) -> Fault | None:
    try:
        if written:
            keep_out(storage.root, tenant, f"{prefix.rstrip('/')}/x.mp4", "output")
        next(open_storage(prefix, s3).list(limit=1), None)
    except IfmdmError as error:
        return "warn", f"{prefix}: {error.what}", error.fix or f"correct it in {tenant_key(tenant)}"
    return None


def _model(name: str, model: ModelRef, s3: S3Config | None) -> Fault | None:
    try:
        data = open_storage(str(DEMO) if model.uri == "demo" else model.uri, s3).get("bundle.json")
    except NotFound:
        return "fail", f"model {name}: there is no bundle at {model.uri}", "correct its uri, or put it back"
    except IfmdmError as error:
        return "warn", f"model {name}: {error.what}", "workers must be able to read it; you need not"
    found = hashlib.sha256(data).hexdigest()
    if found != model.sha256:
        return (
            "fail",
            f"model {name} is pinned to {model.sha256[:12]}, but {model.uri} has {found[:12]}: its jobs will fail",
            f"ifmdm jobs init --model {name}={model.uri} pins what is there now",
        )
    return None


def _workers(storage: Storage, s3: S3Config | None) -> Iterator[Finding]:
    beats = list(storage.list("workers/"))
    ages = [age for beat in beats if (age := storage.age(beat.key)) is not None]
    alive = sum(age <= TAKEOVER_S for age in ages)
    if alive:
        yield Finding("workers", "ok", f"{alive} at work")
    else:
        yield Finding("workers", "warn", "none: jobs wait", f"ifmdm jobs work {storage.root}")
