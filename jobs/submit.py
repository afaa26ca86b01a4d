"""Taking jobs in: what a tenant asks for is checked, pinned, and entered, in an order that a crash cannot spoil.

    right to publish at the output  →  marker in the queue  →  spec.json

A crash leaves a right and perhaps a marker without a job; the same submit again goes on from there, and what nobody
repeats is passed over after an hour. Never a job without its marker.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from ifmdm_core.errors import BadInput, Conflict, Forbidden, IfmdmError, NotFound, Unavailable
from ifmdm_core.storage import Storage
from ifmdm_core.uri import Uri
from jobs import outputs
from jobs.clock import Clock
from jobs.entries import JobRecord, Pinned, State
from jobs.names import ID_DIGITS, JobRef, check_tenant
from jobs.rendering.file_kinds import HEAD, check_audio, check_portrait
from jobs.settle import follow, waiting_key
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import ModelRef, Places, TenantPolicy, keep_out

PINS_S = 60.0
"""Seconds for which an input that several jobs name is not looked at again."""
PINS_MOST = 50_000
LATE_S = 600.0
"""Seconds after which a marker is put again: others may have taken it for a dead submit's."""
INPUTS = {"portrait": check_portrait, "audio": check_audio}


@dataclass(frozen=True)
class Submitted:
    """A job in the store."""

    ref: JobRef
    created: bool
    """False: it was there already."""
    state: State
    age: float
    """Seconds since it was submitted first."""
    bundle: str
    """sha256 of the bundle.json it is pinned to."""
    output: str


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
        self._found: dict[tuple[str, bool], tuple[float, Pinned]] = {}

    def pin(self, storage: Storage, key: str, uri: str, field: str, probe: bool) -> Pinned:
        """Size and version of what lies at `key` of `storage`, which messages call `uri`.

        Args:
            probe: look at its first bytes too.

        Raises NotFound, BadInput for an empty file or one of another kind, Forbidden.
        """
        now = self._clock.monotonic()
        kept = self._found.get((uri, probe))
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
        self._found[uri, probe] = (now, found)
        return found

    def guess(self, uri: str, size: int) -> None:
        """Takes for granted that a file of `size` bytes is there: it would be uploaded first."""
        for probe in (False, True):
            self._found[uri, probe] = (self._clock.monotonic(), Pinned(etag="", size=size))


def submit_job(
    store: JobStore, places: Places, tenant: str, policy: TenantPolicy, job: RenderJob, *, new: bool = False,
    probe: bool = False, pins: Pins | None = None,
) -> Submitted:  # fmt: skip
    """Checks a job and enters it, or finds it in the store already. Safe to repeat, by any number at once.

    Args:
        new: another job even where there is one with that key, or one that asks for the same.
        probe: look at the inputs' first bytes too.
        pins: shared by those who submit many jobs.

    Raises:
        BadInput, Unsupported, NotFound, Forbidden: as `accept`.
        Conflict: another version of an input is there; the key, or the output, belongs to another job.
        Unavailable: the store does not answer; the same submit again goes on where this one stopped.
    """
    return enter(
        store, accept(store, places, tenant, policy, job, new=new, probe=probe, pins=pins or Pins(store.clock))
    )  # fmt: skip


def accept(
    store: JobStore, places: Places, tenant: str, policy: TenantPolicy, job: RenderJob, *, new: bool = False,
    probe: bool = False, pins: Pins,
) -> Accepted:  # fmt: skip
    """Checks a job against its tenant's policy and pins its inputs. Writes nothing.

    Raises BadInput, Unsupported, NotFound, Forbidden, Conflict; `field` of the error says which one it is about.
    """
    check_tenant(tenant)
    job = _canonical(job)
    with about("model", job.model):
        model = policy.model(job.model)
    with about("callback", job.callback):
        _check_callback(job.callback, policy)
    with about("output", job.output):
        keep_out(store.storage.root, tenant, job.output, "output")
        output = places.at(job.output, policy.outputs, "output")
    inputs = {field: _pin(store, places, tenant, policy, job, field, probe, pins) for field in INPUTS}
    etags = {field: pinned.etag for field, pinned in inputs.items()}
    id = job.id(tenant, etags)
    if new:
        salt = f"{store.clock.chance.getrandbits(128):032x}"
        id = hashlib.sha256(json.dumps([tenant, "new", salt]).encode()).hexdigest()[:ID_DIGITS]
    return Accepted(JobRef(tenant, id), job, inputs, job.digest(etags), model, output)


def enter(store: JobStore, accepted: Accepted) -> Submitted:
    """Writes a job, unless it is there already. Raises Conflict, Unavailable, Forbidden; BadInput past its deadline."""
    ref, job, began = accepted.ref, accepted.job, store.clock.now()
    if job.deadline is not None and job.deadline <= began:
        if (there := _existing(store, accepted)) is not None:
            return there
        raise _field(
            BadInput(f"deadline is {job.deadline:.0f}, which has passed", fix="give a later one"), "deadline"
        )
    right = outputs.take(store, ref, job.output, 1)
    if right is None:
        if (there := _existing(store, accepted)) is not None:
            return there
        with about("output", job.output):
            _require_room(accepted)
            right = outputs.take_next(store, ref, job.output, job.if_exists == "overwrite")
    record = JobRecord(
        tenant=ref.tenant, id=ref.id, nonce=store.nonce(), submitted_at=right.at, digest=accepted.digest,
        bundle_uri=accepted.model.uri, bundle=accepted.model.sha256, holder=right.number, inputs=accepted.inputs,
        given=sorted(job.model_fields_set), job=job,
    )  # fmt: skip
    marker = waiting_key(ref, 0, record.initial(), right.at)
    store.storage.put(marker, b"")
    if not store.create_once(ref.spec, record.model_dump_json().encode(), record.nonce):
        return _lost_to_another(store, accepted, marker)
    if store.clock.now() - began > LATE_S:
        store.storage.put(marker, b"")
    return Submitted(ref, True, "queued", 0.0, record.bundle, job.output)


@contextlib.contextmanager
def about(field: str, value: object) -> Iterator[None]:
    """Errors of ours inside name the field of the job they are about."""
    try:
        yield
    except IfmdmError as error:
        if not error.what.startswith(field):
            error.what = f"{field} {value!r}: {error.what}"
        raise _field(error, field) from None


def _field(error: IfmdmError, field: str) -> IfmdmError:
    error.field = error.field or field
    return error


def _canonical(job: RenderJob) -> RenderJob:
    """With one name for each place, so that equal jobs and equal outputs are known as such."""
    named = {}
    for field in (*INPUTS, "output"):
        uri = Uri.parse(getattr(job, field))
        if uri.scheme == "file" and not os.path.isabs(uri.path):
            raise _field(
                BadInput(f"{field} is {uri.path!r}, a relative path", fix="give the whole path, from /"),
                field,
            )
        named[field] = str(uri) if uri.scheme == "s3" else os.path.normpath(uri.path)
    return job.model_copy(update=named)


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
        raise _field(error, f"{field}_etag")
    return found


def _require_room(accepted: Accepted) -> None:
    """Raises Conflict where a video of an earlier job is still there: this one's could not be published."""
    if accepted.job.if_exists == "overwrite":
        return
    storage, key = accepted.output
    with contextlib.suppress(Forbidden):  # who may only write there cannot know; publishing will
        if storage.info(key) is not None:
            raise Conflict(
                f"output {accepted.job.output} exists already",
                fix="move it, choose another output, or set if_exists to overwrite",
            )


def _existing(store: JobStore, accepted: Accepted) -> Submitted | None:
    """The job as it is in the store, None where it is not.

    Raises Conflict where another has its key, Unavailable while its record is being removed (see `jobs.gc`).
    """
    ref, final = accepted.ref, False
    try:
        view = store.view(ref)
        final = view.final
        record = view.record or store.record(ref)
    except NotFound:
        if final:
            raise Unavailable(
                f"{ref} is being cleaned up",
                fix="try again; ifmdm jobs fsck --repair ends it",
                retry_after=5.0,
            ) from None
        return None
    if changed := _differences(accepted, record):
        error = Conflict(
            f"key {accepted.job.key!r} belongs to job {ref.id}, which differs in {', '.join(changed)}",
            fix="use another key, or --new for another job under this one",
        )
        raise _field(error, "key")
    if view.state.state == "queued" and not view.final:
        follow(store, ref, view.seq, view.state)  # its marker may be gone with a submit that died
    age = max(0.0, store.clock.now() - record.submitted_at)
    return Submitted(ref, False, view.state.state, age, record.bundle, record.job.output)


def _differences(accepted: Accepted, record: JobRecord) -> list[str]:
    """Fields in which the job differs from the one in the store; what the user set makes no difference in itself."""
    ours, theirs = accepted.job.model_dump(mode="json"), record.job.model_dump(mode="json")
    found = []
    for field in ours:
        if ours[field] != theirs[field]:
            found.append(f"{field} ({_short(theirs[field])} there, {_short(ours[field])} here)")
        elif field in INPUTS and accepted.inputs[field].etag != record.inputs[field].etag:
            found.append(f"{field} (same name, other contents)")
    return found


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _lost_to_another(store: JobStore, accepted: Accepted, marker: str) -> Submitted:
    """Somebody entered a job of this id meanwhile: the same one, or another under the same key."""
    try:
        record = store.record(accepted.ref)
        if waiting_key(record.ref, 0, record.initial(), record.submitted_at) != marker:
            store.storage.delete(marker)
        there = _existing(store, accepted)
    except NotFound:
        there = None
    if there is None:
        raise Unavailable(f"{accepted.ref} was removed right now", fix="try again", retry_after=1.0)
    return there
