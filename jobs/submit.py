"""Jobs are entered in an order that a crash cannot spoil.

    right to publish at the output  →  marker in the queue  →  spec.json

A crash leaves a right and perhaps a marker without a job; the same submit again goes on from there, and what nobody
repeats is passed over after an hour. Never a job without its marker.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from ifmdm_core.errors import BadInput, Conflict, Forbidden, NotFound, Unavailable
from jobs import outputs
from jobs.accept import INPUTS, Accepted, Pins, about, accept, of_field
from jobs.entries import JobRecord, State
from jobs.names import JobRef
from jobs.settle import follow, waiting_key
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import Places, TenantPolicy

LATE_S = 600.0
"""Seconds after which a marker is put again: others may have taken it for a dead submit's."""


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


def enter(store: JobStore, accepted: Accepted) -> Submitted:
    """Writes a job, unless it is there already. Raises Conflict, Unavailable, Forbidden; BadInput past its deadline."""
    ref, job, began = accepted.ref, accepted.job, store.clock.now()
    if job.deadline is not None and job.deadline <= began:
        if (there := _existing(store, accepted)) is not None:
            return there
        raise of_field(
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
        raise of_field(error, "key")
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
