"""Making a store, and letting tenants in. The operator's part; all of it can be done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ifmdm_core.audit import AuditLog, sha256
from ifmdm_core.errors import BadInput, Conflict, NotFound
from ifmdm_core.samples import DEMO
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import Uri
from jobs.entries import LAYOUT
from jobs.names import STORE, tenant_key
from jobs.store import JobStore
from jobs.tenants import ModelRef, TenantPolicy, parse_policy

DEFAULT_TENANT = "default"


def make_store(store: JobStore, repair: bool = False) -> bool:
    """Makes the root a job store; False where it is one.

    Args:
        repair: write the store's own file again where it is damaged.

    Raises Conflict for a damaged one, Unsupported for one of another version, Unavailable.
    """
    nonce = store.nonce()
    data = json.dumps({"layout": LAYOUT, "made_at": store.clock.now(), "nonce": nonce}).encode()
    if store.create_once(STORE, data, nonce):
        return True
    try:
        store.check_layout()
    except Conflict:
        if not repair:
            raise
        store.storage.put(STORE, data)
    return False


def let_in(
    store: JobStore, tenant: str, change: TenantPolicy, first: TenantPolicy | None = None
) -> tuple[TenantPolicy, bool]:
    """Gives a tenant rights; what it has now, and whether that is any different.

    Args:
        change: prefixes, models and hosts are added to what it has; cap and weight are taken where they are set.
        first: what a new tenant has where `change` does not say otherwise.

    Raises BadInput for a broken file of that tenant, Unavailable.
    """
    key = tenant_key(tenant)
    given = {name: getattr(change, name) for name in change.model_fields_set}
    try:
        before: TenantPolicy | None = parse_policy(store.storage.get(key), tenant)
    except NotFound:
        before = None
    if before is not None:
        after = _joined(before, given)
    else:
        if "inputs" in given:
            given["inputs"] = _union(given["inputs"], own_places(store.storage.root, tenant))
        after = (first or TenantPolicy()).model_copy(update=given)
    if after != before:
        data = after.model_dump_json(indent=1).encode()
        log = AuditLog(store.storage, store.by, store.clock.now)
        # First what is going to happen: a change that nobody wrote down is what `ifmdm jobs audit --verify` looks for.
        log.change(
            tenant, "policy changed", store.by, key, {"policy": sha256(data)}, ", ".join(sorted(given))
        )
        store.storage.put(key, data)
    return after, after != before


def first_policy(root: Uri, tenant: str, here: Path) -> TenantPolicy:
    """What a new tenant may do before anybody says more: the bundled model, and files it hands over itself.

    The tenant `default` may use the bucket of the store, or the folder `here` and the store's.
    """
    models = {"demo": demo_model()}
    if tenant == DEFAULT_TENANT:
        places = (
            (f"s3://{root.bucket}",) if root.scheme == "s3" else (str(here), str(Path(root.path).absolute()))
        )
        return TenantPolicy(inputs=places, outputs=places, models=models)
    return TenantPolicy(inputs=own_places(root, tenant), models=models)


def own_places(root: Uri, tenant: str) -> tuple[str, ...]:
    """Where in the store a tenant hands files over itself."""
    if root.scheme == "file":
        root = Uri.parse(Path(root.path).absolute())
    return tuple(str(root.join(f"{folder}/{tenant}")) for folder in ("uploads", "inbox"))


def demo_model() -> ModelRef:
    """The bundle that comes with the package."""
    return ModelRef(uri="demo", sha256=_digest((DEMO / "bundle.json").read_bytes()))


def parse_model(text: str, s3: S3Config | None = None) -> tuple[str, ModelRef]:
    """NAME=URI or NAME=URI@SHA256; without a digest the bundle is pinned as it is now.

    Raises BadInput, NotFound for no bundle there, as opening the URI does.
    """
    name, equals, place = text.partition("=")
    uri, at, sha256 = place.rpartition("@")
    if not at or "/" in sha256:
        uri, sha256 = place, ""
    if not (name and equals and uri):
        raise BadInput(f"model {text!r} cannot be read", fix="write NAME=URI or NAME=URI@SHA256")
    if sha256 and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise BadInput(
            f"model {text!r}: {sha256!r} is no digest", fix="the sha256 of bundle.json has 64 hex digits"
        )
    if uri == "demo":
        model = demo_model()
        if sha256 not in ("", model.sha256):
            raise Conflict(f"model {text!r}: the demo of this version has sha256 {model.sha256}")
        return name, model
    if Uri.parse(uri).scheme == "file":
        uri = str(Path(Uri.parse(uri).path).absolute())
    if not sha256:
        try:
            sha256 = _digest(open_storage(uri, s3).get("bundle.json"))
        except NotFound:
            raise NotFound(f"no bundle at {uri}: it has no bundle.json", fix="check the address") from None
    return name, ModelRef(uri=uri, sha256=sha256)


def _joined(before: TenantPolicy, given: dict[str, Any]) -> TenantPolicy:
    given = dict(given)
    for name in ("inputs", "outputs", "webhook_hosts"):
        if name in given:
            given[name] = _union(getattr(before, name), given[name])
    if "models" in given:
        given["models"] = {**before.models, **given["models"]}
    return before.model_copy(update=given)


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
