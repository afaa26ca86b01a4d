"""Jobs dropped as files: every inbox/<t>/….json is one, every .csv or .jsonl there a manifest of them.

A file is known by its name and version: any number of workers may take it up at once, and again after a crash. Once its
jobs are in the store it is removed, unless it was replaced meanwhile. What cannot be a job stays, with the reason
beside it in <name>.rejected.json, and is looked at again when it is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ifmdm_core.errors import BadInput, Busy, Conflict, IfmdmError, NotFound
from ifmdm_core.storage import Item
from ifmdm_core.uri import check_key
from jobs.accept import Pins
from jobs.audit import told_refusals
from jobs.entries import Fault
from jobs.manifest.rejects import Reject
from jobs.manifest.row_jobs import Defaults
from jobs.manifest.rows import open_rows
from jobs.spec import RenderJob, parse_job
from jobs.store import JobStore
from jobs.submit import submit_job
from jobs.tenants import Places, TenantPolicy, read_policy

FOLDER = "inbox/"
REJECTED = ".rejected.json"
TAKEN = ".taken"
MANIFESTS = (".csv", ".jsonl")
JOB_MOST, MANIFEST_MOST = 1 << 20, 64 << 20
"""bytes"""
PATIENCE_S = 600.0
"""Seconds for which a job's inputs may come later than the job."""
TAKEN_S = 900.0
"""Age at which a manifest that a worker took up and did not finish is taken up by another."""
SETTLED_S = 2.0
"""Seconds after which a file in a folder counts as whole."""
PASS_S = 60.0
"""Seconds after which a pass ends; the next goes on."""
LISTED = 1000
"""Files that one pass chooses from."""
TOLD = 1000
"""Refused rows of a manifest that are told."""


@dataclass
class Received:
    """What one pass did."""

    jobs: int = 0
    """New ones."""
    files: int = 0
    """Taken up and removed."""
    rejected: list[str] = field(default_factory=list)
    """Files that stay, with the reason."""


class Inbox:
    """One worker's look at the inbox of all tenants."""

    def __init__(self, store: JobStore, places: Places) -> None:
        self.store, self.places = store, places
        self._pins = Pins(store.clock)
        self._known: set[tuple[str, str]] = set()

    def sweep(self) -> Received:
        """Takes up what lies there. Raises Unavailable."""
        received, policies = Received(), dict[str, TenantPolicy | None]()
        until = self.store.clock.monotonic() + PASS_S
        for item in self._waiting():
            tenant = item.key.split("/")[1]
            if tenant not in policies:
                policies[tenant] = self._policy(tenant)
            policy = policies[tenant]
            if policy is None:
                continue  # until the operator lets it in
            try:
                self._take_up(item, tenant, policy, received)
            except Busy:
                raise
            except IfmdmError as error:
                self._reject(item, {"error": Fault.of(error).model_dump(mode="json")}, received)
            if self.store.clock.monotonic() > until:
                break
        return received

    def _policy(self, tenant: str) -> TenantPolicy | None:
        try:
            return read_policy(self.store.storage, tenant)
        except Busy:
            raise
        except IfmdmError:
            return None

    def _waiting(self) -> list[Item]:
        """Files to take up, shuffled: workers seldom reach for the same."""
        found, there = [], set()
        for item in self.store.storage.list(FOLDER):
            there.add((item.key, item.etag))
            if (
                _is_job(item.key)
                and (item.key, item.etag) not in self._known
                and not self._being_written(item)
            ):
                found.append(item)
                if len(found) == LISTED:
                    break
        else:
            self._known &= there
        self.store.clock.chance.shuffle(found)
        return found

    def _being_written(self, item: Item) -> bool:
        """Whether a file may not be whole yet; in a bucket all are."""
        age = self.store.clock.now() - item.modified.timestamp()
        return self.store.storage.root.scheme == "file" and abs(age) < SETTLED_S

    def _take_up(self, item: Item, tenant: str, policy: TenantPolicy, received: Received) -> None:
        if self._was_rejected(item):
            self._known.add((item.key, item.etag))
            return
        try:
            if item.key.endswith(MANIFESTS):
                done = self._manifest(item, tenant, policy, received)
            else:
                done = self._job(item, tenant, policy, received)
        except NotFound as error:
            if self.store.storage.info(item.key) is None:
                return  # another worker was quicker
            age = self.store.storage.age(item.key)
            if age is None or age < PATIENCE_S:
                return  # its inputs may be on their way
            raise error
        if done:
            self.store.storage.delete_if(item.key, item.etag)
            self.store.storage.delete(f"{item.key}{REJECTED}")
            received.files += 1

    def _job(self, item: Item, tenant: str, policy: TenantPolicy, received: Received) -> bool:
        if item.size > JOB_MOST:
            raise BadInput(f"the file has {item.size} bytes, more than any job", fix="one file is one job")
        try:
            values = json.loads(self.store.storage.get(item.key))
        except ValueError as error:
            raise BadInput(
                f"the file is not JSON: {error}", fix="ifmdm jobs schema shows what it may hold"
            ) from None
        job = parse_job(values)
        try:
            created = self._submit(_with_key(job, item), tenant, policy)
        except Conflict as error:
            if job.key is not None or error.field != "key":
                raise
            created = False  # in the store since an earlier pass, which could not remove the file; an input has changed
        received.jobs += created
        return True

    def _manifest(self, item: Item, tenant: str, policy: TenantPolicy, received: Received) -> bool:
        """All rows of a manifest; False where another worker is at it, or rows were refused."""
        if item.size > MANIFEST_MOST:
            raise BadInput(
                f"the manifest has {item.size / 1e6:.0f} MB; {MANIFEST_MOST >> 20} MiB are the most here",
                fix="ifmdm jobs submit --manifest takes any size",
            )
        taken = f"{item.key}{TAKEN}"
        if not self.store.storage.put_if_absent(taken, item.etag.encode()):
            age = self.store.storage.age(taken)
            if age is not None and age < TAKEN_S:
                return False
            self.store.storage.put(taken, item.etag.encode())
        rejects = self._rows(item, tenant, policy, received)
        self.store.storage.delete(taken)
        if rejects:
            told = [vars(reject) for reject in rejects[:TOLD]]
            self._reject(item, {"rejected": len(rejects), "rows": told}, received)
        return not rejects

    def _rows(self, item: Item, tenant: str, policy: TenantPolicy, received: Received) -> list[Reject]:
        rejects = []
        with tempfile.TemporaryDirectory(prefix="ifmdm-inbox-") as folder:
            path = Path(folder, item.key.rpartition("/")[2])
            self.store.storage.fetch(item.key, path)
            for row in open_rows(path):
                try:
                    received.jobs += self._submit(Defaults().job(row), tenant, policy)
                except Busy:
                    raise
                except IfmdmError as error:
                    rejects.append(Reject.of(row, error))
        return rejects

    def _submit(self, job: RenderJob, tenant: str, policy: TenantPolicy) -> bool:
        with told_refusals(self.store, tenant, job.output):
            return submit_job(self.store, self.places, tenant, policy, job, pins=self._pins).created

    def _was_rejected(self, item: Item) -> bool:
        try:
            told = json.loads(self.store.storage.get(f"{item.key}{REJECTED}"))
        except (NotFound, ValueError):
            return False
        return isinstance(told, dict) and told.get("etag") == item.etag

    def _reject(self, item: Item, why: dict[str, Any], received: Received) -> None:
        told = {"file": item.key, "etag": item.etag, "at": self.store.clock.now(), **why}
        with contextlib.suppress(BadInput):  # a name so long that none fits beside it
            self.store.storage.put(f"{item.key}{REJECTED}", json.dumps(told, indent=1).encode())
        self._known.add((item.key, item.etag))
        received.rejected.append(item.key)


def _is_job(key: str) -> bool:
    if key.count("/") < 2 or key.endswith(REJECTED) or not key.endswith((".json", *MANIFESTS)):
        return False
    try:
        check_key(key)
    except BadInput:
        return False  # such as s3://…/inbox/t//job.json
    return True


def _with_key(job: RenderJob, item: Item) -> RenderJob:
    """Known by the file's name and version, where it names no key itself."""
    if job.key is not None:
        return job
    name = hashlib.sha256(f"{item.key}\n{item.etag}".encode()).hexdigest()[:40]
    return job.model_copy(update={"key": f"inbox-{name}"})
