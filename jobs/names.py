"""Every key of a job store, made and read in one place.

    jobs/<t>/<id>/spec.json | log/00000003.json | wishes/00000003-stop.json | final.json
    attempts/<t>/<id>/<epoch>/…
    queue/<t>/<rank>-<id>-<seq>   later/<minute>/<t>-<id>-<seq>   running/<worker>/<t>-<id>-<seq>      hints
    outputs/<hh>/<sha256 of URI>/00000001.json        ended/<t>/<day>/<state>/<id>       webhooks/<t>-<id>-<seq>
    kept/<t>/<day>/<id>   inbox/<t>/…   workers/<worker>.json   tenants/<t>.json   uploads/<t>/<sha256><suffix>
    deny/<sha256>-<look>.json   audit/<t>/<chain>/<seq>.json        (see ifmdm_core: denylist, audit)
    _store.json   _fsck.json   _swept.json

The tenant comes first, so that access rights can be bound to it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ifmdm_core.errors import BadInput

STORE = "_store.json"
LOOKED = "_fsck.json"
"""Written whenever a worker begins to look at every job."""
SWEPT = "_swept.json"
"""Written whenever a worker begins a pass of the sweeper."""
FOLDERS = frozenset(
    (
        "jobs", "attempts", "queue", "later", "running", "outputs", "ended", "kept", "webhooks", "inbox", "workers",
        "tenants", "uploads", "deny", "audit",
    )
)  # fmt: skip
"""Everything else under a store's root is other people's."""
ID_DIGITS = 32
PRIORITY_S = 60.0
"""Seconds that one step of priority is worth: a job of priority 1 overtakes what was queued up to a minute before."""
_RANK_DIGITS = 14
_SEQ_DIGITS = 8
_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_HINT = re.compile(rf"(?P<tenant>.+)-(?P<id>[0-9a-f]{{{ID_DIGITS}}})-(?P<seq>\d{{{_SEQ_DIGITS}}})")
_MARKER = re.compile(
    rf"(?P<rank>\d{{{_RANK_DIGITS}}})-(?P<id>[0-9a-f]{{{ID_DIGITS}}})-(?P<seq>\d{{{_SEQ_DIGITS}}})"
)

_HOLDER = re.compile(
    rf"(?P<folder>outputs/[0-9a-f]{{2}}/[0-9a-f]{{64}}/)(?P<number>\d{{{_SEQ_DIGITS}}})\.json"
)

WishKind = Literal["stop", "resume", "retry", "priority"]
WISHES: tuple[WishKind, ...] = ("stop", "resume", "retry", "priority")


def check_tenant(tenant: str) -> str:
    """Return `tenant` when it can be one. Raises BadInput."""
    if not _TENANT.fullmatch(tenant):
        raise BadInput(
            f"tenant {tenant[:80]!r} is no name",
            fix="use lower-case letters, digits, dots, dashes, underscores; 63 at most",
        )
    return tenant


def check_id(id: str) -> str:
    """Return `id` when it can be a job's. Raises BadInput."""
    if not _ID.fullmatch(id):
        raise BadInput(
            f"{id[:80]!r} is no job", fix=f"a job's id has {ID_DIGITS} hex digits; ifmdm jobs ls shows them"
        )
    return id


@dataclass(frozen=True, order=True)
class JobRef:
    """Which job."""

    tenant: str
    id: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.id}"

    @property
    def folder(self) -> str:
        """jobs/<t>/<id>/"""
        return f"jobs/{self.tenant}/{self.id}/"

    @property
    def spec(self) -> str:
        return f"{self.folder}spec.json"

    @property
    def final(self) -> str:
        return f"{self.folder}final.json"

    def log(self, seq: int) -> str:
        """The entry of that number."""
        return f"{self.folder}log/{seq:0{_SEQ_DIGITS}d}.json"

    def wish(self, seq: int, kind: WishKind) -> str:
        """What a user wishes of the job as it was after entry `seq`."""
        return f"{self.folder}wishes/{seq:0{_SEQ_DIGITS}d}-{kind}.json"

    def attempt(self, epoch: int) -> str:
        """Folder of one attempt, without a slash at its end."""
        return f"attempts/{self.tenant}/{self.id}/{epoch}"


@dataclass(frozen=True, order=True)
class Marker:
    """queue/<t>/<rank>-<id>-<seq>: the job may be waiting since entry `seq`. Smaller ranks go first."""

    rank: str
    job: JobRef
    seq: int

    @property
    def key(self) -> str:
        return f"queue/{self.job.tenant}/{self.rank}-{self.job.id}-{self.seq:0{_SEQ_DIGITS}d}"

    @classmethod
    def parse(cls, key: str) -> Marker | None:
        """None for a name that is none of ours."""
        _, tenant, name = (*key.split("/", 2), "", "")[:3]
        found = _MARKER.fullmatch(name)
        return cls(found["rank"], JobRef(tenant, found["id"]), int(found["seq"])) if found else None


@dataclass(frozen=True, order=True)
class Later:
    """later/<minute>/<t>-<id>-<seq>: the job, queued by entry `seq`, is to wait until that minute."""

    minute: str
    job: JobRef
    seq: int

    @property
    def key(self) -> str:
        return f"later/{self.minute}/{_hint(self.job, self.seq)}"

    @classmethod
    def parse(cls, key: str) -> Later | None:
        """None for a name that is none of ours."""
        _, minute, name = (*key.split("/", 2), "", "")[:3]
        found = _HINT.fullmatch(name)
        return cls(minute, JobRef(found["tenant"], found["id"]), int(found["seq"])) if found else None


@dataclass(frozen=True, order=True)
class Running:
    """running/<worker>/<t>-<id>-<seq>: that worker claims, or has claimed, the job by entry `seq`."""

    worker: str
    job: JobRef
    seq: int

    @property
    def key(self) -> str:
        return f"running/{self.worker}/{_hint(self.job, self.seq)}"

    @classmethod
    def parse(cls, key: str) -> Running | None:
        """None for a name that is none of ours."""
        _, worker, name = (*key.split("/", 2), "", "")[:3]
        found = _HINT.fullmatch(name)
        return cls(worker, JobRef(found["tenant"], found["id"]), int(found["seq"])) if found else None


@dataclass(frozen=True, order=True)
class Webhook:
    """webhooks/<t>-<id>-<seq>: entry `seq` is still to be told to the job's callback URL."""

    job: JobRef
    seq: int

    @property
    def key(self) -> str:
        return f"webhooks/{_hint(self.job, self.seq)}"

    @classmethod
    def parse(cls, key: str) -> Webhook | None:
        """None for a name that is none of ours."""
        found = _HINT.fullmatch(key.removeprefix("webhooks/"))
        return cls(JobRef(found["tenant"], found["id"]), int(found["seq"])) if found else None


@dataclass(frozen=True, order=True)
class Ended:
    """ended/<t>/<day>/<state>/<id>: found by tenant, age and state without reading a job.

    Suspended ones have such a hint too.
    """

    job: JobRef
    day: str
    state: str

    @property
    def key(self) -> str:
        return f"ended/{self.job.tenant}/{self.day}/{self.state}/{self.job.id}"

    @classmethod
    def parse(cls, key: str) -> Ended | None:
        """None for a name that is none of ours."""
        parts = key.split("/")
        if len(parts) != 5 or not _ID.fullmatch(parts[4]):
            return None
        return cls(JobRef(parts[1], parts[4]), parts[2], parts[3])


@dataclass(frozen=True, order=True)
class Kept:
    """kept/<t>/<day>/<id>: since that day only the job's record is kept. Holds the key of its right to publish."""

    job: JobRef
    day: str

    @property
    def key(self) -> str:
        return f"kept/{self.job.tenant}/{self.day}/{self.job.id}"

    @classmethod
    def parse(cls, key: str) -> Kept | None:
        """None for a name that is none of ours."""
        parts = key.split("/")
        if len(parts) != 4 or not _ID.fullmatch(parts[3]):
            return None
        return cls(JobRef(parts[1], parts[3]), parts[2])


def heartbeat(worker: str) -> str:
    """workers/<worker>.json"""
    return f"workers/{worker}.json"


def tenant_key(tenant: str) -> str:
    """tenants/<t>.json"""
    return f"tenants/{check_tenant(tenant)}.json"


def output_folder(uri: str) -> str:
    """outputs/<hh>/<sha256 of URI>/"""
    digest = hashlib.sha256(uri.encode()).hexdigest()
    return f"outputs/{digest[:2]}/{digest}/"


def output_holder(uri: str, number: int) -> str:
    """The `number`-th right to publish at `uri`, from 1."""
    return f"{output_folder(uri)}{number:0{_SEQ_DIGITS}d}.json"


def next_holder(holder: str) -> str:
    """The right to publish that supersedes this one. Raises BadInput for a key that is none."""
    found = _HOLDER.fullmatch(holder)
    if found is None:
        raise BadInput(f"{holder[:200]!r} is no right to publish")
    return f"{found['folder']}{int(found['number']) + 1:0{_SEQ_DIGITS}d}.json"


def rank(queued_at: float, priority: int) -> str:
    """Place in a tenant's queue: older and more important first; fixed width, so that listing sorts."""
    return f"{max(0, round((queued_at - PRIORITY_S * priority) * 1000)):0{_RANK_DIGITS}d}"


def minute(at: float) -> str:
    """The first whole minute at or after `at` (seconds since 1970), as it stands in `later/`; sorts by time."""
    return datetime.fromtimestamp(-(-at // 60) * 60, UTC).strftime("%Y%m%dT%H%M")


def day(at: float) -> str:
    """The UTC day of `at`, as it stands in `ended/`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d")


def _hint(job: JobRef, seq: int) -> str:
    return f"{job.tenant}-{job.id}-{seq:0{_SEQ_DIGITS}d}"
