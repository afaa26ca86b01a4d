"""Who did what with a job store: what the jobs' own logs say, and the audit log for all that they do not.

A job's log is append-only already, names who wrote each entry, and costs nothing more; `gc` keeps its history in the
job's record for as long as that is kept. In `audit/` is the rest: policies, the deny-list, refused submits, what gc
removed, and what gateways do whose `oversight` is this store.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ifmdm_core.audit import ALL, AuditLog, sha256
from ifmdm_core.audit_check import Checked, check, events
from ifmdm_core.denylist import DenyList
from ifmdm_core.errors import Conflict, Forbidden, NotFound, Unavailable, Unsupported
from jobs.gc import Freed
from jobs.listing import Job, Which, find, read_job
from jobs.names import JobRef, Kept, day, tenant_key
from jobs.store import JobStore
from jobs.timeline import timeline


@dataclass(frozen=True)
class Told:
    """One line."""

    at: float
    """Seconds since 1970, by whoever wrote it."""
    tenant: str
    what: str
    who: str
    subject: str
    note: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    source: str = "audit"
    """`job`: the job's own log; `audit`: the audit log."""

    def plain(self) -> dict[str, Any]:
        """For machines."""
        return dict(vars(self))


@contextlib.contextmanager
def told_refusals(store: JobStore, tenant: str, subject: str) -> Iterator[None]:
    """Forbidden that is raised inside is written down: one request for each, and none for what is let in."""
    try:
        yield
    except Forbidden as error:
        log = AuditLog(store.storage, store.by, store.clock.now)
        log.note(tenant, "refused", store.by, subject, note=str(error.what))
        with contextlib.suppress(Unavailable):  # the refusal stands
            log.flush()
        raise


def told_cleanup(store: JobStore, freed: Freed) -> None:
    """Writes down that jobs were cleaned up, and by whom. Raises Unavailable."""
    log = AuditLog(store.storage, store.by, store.clock.now)
    note = f"{freed.jobs} jobs reduced to records, {freed.records} records forgotten, {freed.objects} objects"
    log.change(ALL, "cleaned up", store.by, str(store.storage.root), note=note)


def lines(store: JobStore, tenants: tuple[str, ...] | None = None, since: float = 0.0) -> list[Told]:
    """Everything since then, oldest first. Reads every job that may have done something since.

    Args:
        tenants: None is everybody's, and what concerns nobody in particular.

    Raises Unavailable, Forbidden.
    """
    found = [
        Told(t.event.at, t.tenant, t.event.what, t.event.who, t.event.subject, t.event.note, t.event.digests)
        for t in events(store.storage, tenants, since)
    ]
    age = None if not since else max(0.0, store.clock.now() - since)
    seen: set[JobRef] = set()
    for job in itertools.chain(find(store, Which(tenants, since_s=age)), _records(store, tenants, since)):
        if job.ref not in seen:
            seen.add(job.ref)
            with contextlib.suppress(NotFound, Conflict, Unsupported):
                found += [told for told in _of_job(store, job) if told.at >= since]
    return sorted(found, key=lambda told: told.at)  # what one job says stays in its order


def verify(store: JobStore, kept_days: float | None = None) -> Checked:
    """Whether the audit log is whole, and whether policies and deny-list are as it says. Raises Unavailable.

    Args:
        kept_days: see `audit_check.check`.
    """
    storage = store.storage
    checked = check(storage, store.clock.now(), kept_days)
    policies: dict[str, str] = {}
    denied: dict[str, bool] = {}
    for told in sorted(events(storage), key=lambda told: told.key):
        if told.event.what == "policy changed":
            policies[told.tenant] = told.event.digests.get("policy", "")
        elif told.event.what in ("portrait denied", "denial lifted"):
            denied[told.event.subject] = told.event.what == "portrait denied"
    for tenant, digest in sorted(policies.items()):
        with contextlib.suppress(NotFound):
            if sha256(storage.get(tenant_key(tenant))) != digest:
                checked.problems.append(
                    f"{tenant_key(tenant)} is not what the log says: changed by other means"
                )
    there = {entry.sha256 for entry, _ in DenyList(storage).all()}
    for subject in sorted(there | {subject for subject, is_denied in denied.items() if is_denied}):
        if subject in there and not denied.get(subject, False):
            checked.problems.append(f"deny/{subject[:12]}… is there, and nobody is told to have put it there")
        elif subject not in there:
            checked.problems.append(f"deny/{subject[:12]}… is gone, and nobody is told to have lifted it")
    return checked


def _records(store: JobStore, tenants: tuple[str, ...] | None, since: float) -> Iterator[Job]:
    """Jobs of which only the record is left since then, or a later day."""
    storage = store.storage
    for tenant in storage.folders("kept/") if tenants is None else tenants:
        for name in storage.folders(f"kept/{tenant}/"):
            for item in storage.list(f"kept/{tenant}/{name}/") if name >= day(since) else ():
                if (kept := Kept.parse(item.key)) is not None:
                    with contextlib.suppress(NotFound, Conflict, Unsupported):
                        yield read_job(store, kept.job)


def _of_job(store: JobStore, job: Job) -> list[Told]:
    record, asked = job.record, job.record.job
    digests = {
        "bundle": record.bundle, "spec": record.digest, **{f"{name}_etag": p.etag for name, p in record.inputs.items()}
    }  # fmt: skip
    found = []
    for moment in timeline(store, job.view, record):
        note, about = moment.what, {}
        if moment.kind == "submitted":
            note, about = f"{note}, consent {asked.consent}" if asked.consent else note, digests
        elif moment.kind in ("done", "published") and job.view.state.video is not None:
            about = {"video": job.view.state.video.sha256}
        found.append(Told(moment.at, record.tenant, moment.kind, moment.by, record.id, note, about, "job"))
    return found
