"""What a tenant asks for, checked against what it may do, with its inputs pinned. Nothing is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from ifmdm_core.consent import require_consent
from ifmdm_core.denylist import DenyList
from ifmdm_core.errors import BadInput, Conflict, Forbidden, IfmdmError, NotFound, Unavailable
from ifmdm_core.storage import Storage
from ifmdm_core.uri import Uri
from jobs.clock import Clock
from jobs.entries import Pinned
from jobs.names import ID_DIGITS, JobRef, check_tenant
from jobs.rendering.file_kinds import HEAD, check_audio, check_portrait
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import ModelRef, Places, TenantPolicy, keep_out
from jobs.uploads import uploaded_digest

PINS_S = 60.0
"""Seconds for which an input that several jobs name is not looked at again."""
PINS_MOST = 50_000
INPUTS = {"portrait": check_portrait, "audio": check_audio}


@dataclass(frozen=True)
class Accepted:
    """A job that may be entered."""

    ref: JobRef
    job: RenderJob
    inputs: dict[str, Pinned]
    digest: str
    model: ModelRef
    output: tuple[Storage, str]
    """Where `job.output` is."""


class Pins:
    """The versions of inputs, kept for a moment: many jobs name the same portrait. For any number of threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[tuple[str, str | None], tuple[float, Pinned]] = {}
        self._denied: DenyList | None = None

    def denied(self, storage: Storage) -> DenyList:
        """The store's list of portraits that may not be animated, as of the last half minute."""
        if self._denied is None:
            self._denied = DenyList(storage, clock=self._clock.monotonic)
        return self._denied

    def pin(self, storage: Storage, key: str, uri: str, field: str, probe: bool) -> Pinned:
        """Size and version of what lies at `key` of `storage`, which messages call `uri`.

        Args:
            probe: look at its first bytes too.

        Raises NotFound, BadInput for an empty file or one of another kind, Forbidden.
        """
        now = self._clock.monotonic()
        name = uri, field if probe else None  # what is fit for one need not be for the other
        kept = self._found.get(name)
        if kept is not None and now - kept[0] < PINS_S:
            return kept[1]
        item = storage.info(key)
        if item is None:
            raise NotFound("there is nothing", fix="check the address, or upload it first")
        if item.size == 0:
            raise BadInput("is empty (0 bytes)", fix="give a complete file")
        if probe:
            INPUTS[field](storage.start(key, HEAD), f"{field} {uri!r}")
        if len(self._found) >= PINS_MOST:
            self._found.clear()
        found = Pinned(etag=item.etag, size=item.size)
        self._found[name] = (now, found)
        return found

    def guess(self, uri: str, size: int) -> None:
        """Takes for granted that a file of `size` bytes is there: it would be uploaded first."""
        for field in (None, *INPUTS):
            self._found[uri, field] = (self._clock.monotonic(), Pinned(etag="", size=size))


def accept(
    store: JobStore, places: Places, tenant: str, policy: TenantPolicy, job: RenderJob, *, new: bool = False,
    probe: bool = False, pins: Pins,
) -> Accepted:  # fmt: skip
    """Checks a job against its tenant's policy and pins its inputs. Writes nothing.

    Raises BadInput, Unsupported, NotFound, Forbidden, Conflict; `field` of the error says which one it is about.
    """
    check_tenant(tenant)
    job = _canonical(job)
    require_consent(job.consent, policy.consent == "required")
    with about("model", job.model):
        model = policy.model(job.model)
    with about("callback", job.callback):
        _check_callback(job.callback, policy)
    with about("output", job.output):
        keep_out(store.storage.root, tenant, job.output, "output")
        output = places.at(job.output, policy.outputs, "output")
    _refuse_denied(store, tenant, job, pins)
    inputs = {field: _pin(store, places, tenant, policy, job, field, probe, pins) for field in INPUTS}
    etags = {field: pinned.etag for field, pinned in inputs.items()}
    id = job.id(tenant, etags)
    if new:
        salt = f"{store.clock.chance.getrandbits(128):032x}"
        id = hashlib.sha256(json.dumps([tenant, "new", salt]).encode()).hexdigest()[:ID_DIGITS]
    return Accepted(JobRef(tenant, id), job, inputs, job.digest(etags), model, output)


@contextlib.contextmanager
def about(field: str, value: object) -> Iterator[None]:
    """Errors of ours inside name the field of the job they are about."""
    try:
        yield
    except IfmdmError as error:
        if not error.what.startswith(field):
            error.what = f"{field} {value!r}: {error.what}"
        raise of_field(error, field) from None


def of_field(error: IfmdmError, field: str) -> IfmdmError:
    """The error, which names the field it is about."""
    error.field = error.field or field
    return error


def _canonical(job: RenderJob) -> RenderJob:
    """With one name for each place, so that equal jobs and equal outputs are known as such."""
    named = {}
    for field in (*INPUTS, "output"):
        uri = Uri.parse(getattr(job, field))
        if uri.scheme == "file" and not os.path.isabs(uri.path):
            raise of_field(
                BadInput(f"{field} is {uri.path!r}, a relative path", fix="give the whole path, from /"),
                field,
            )
        named[field] = str(uri) if uri.scheme == "s3" else os.path.normpath(uri.path)
    return job.model_copy(update=named)


def _refuse_denied(store: JobStore, tenant: str, job: RenderJob, pins: Pins) -> None:
    """Raises Forbidden for an uploaded portrait that is denied: its name is its digest. Workers look at all others."""
    sha256 = uploaded_digest(store.storage.root, tenant, job.portrait)
    if sha256 is not None:
        with contextlib.suppress(Unavailable):  # workers do not render what they cannot check
            pins.denied(store.storage).refuse(f"portrait {job.portrait!r}", sha256)


def _check_callback(callback: str | None, policy: TenantPolicy) -> None:
    if callback is None:
        return
    try:
        host = urlsplit(callback).hostname or ""
    except ValueError:
        host = ""
    if host.lower() not in {allowed.lower() for allowed in policy.webhook_hosts}:
        raise Forbidden(
            f"callback is {callback!r}, whose host this tenant may not call",
            fix=f"allowed: {', '.join(policy.webhook_hosts) or 'none'}",
        )


def _pin(
    store: JobStore, places: Places, tenant: str, policy: TenantPolicy, job: RenderJob, field: str, probe: bool,
    pins: Pins,
) -> Pinned:  # fmt: skip
    uri, wanted = getattr(job, field), getattr(job, f"{field}_etag")
    with about(field, uri):
        keep_out(store.storage.root, tenant, uri, field)
        storage, key = places.at(uri, policy.inputs, field)
        found = pins.pin(storage, key, uri, field, probe)
    if wanted is not None and wanted.strip('"') != found.etag:
        error = Conflict(
            f"{field}_etag is {wanted!r}, but what is at {uri} has {found.etag!r}",
            fix="leave it out to take what is there now",
        )
        raise of_field(error, f"{field}_etag")
    return found
