"""Jobs from Python: submit, look, wait, steer. Needs pydantic and boto3 only.

from jobs.client import JobClient

client = JobClient("s3://bucket/jobs")
job = client.submit(portrait="ann.jpg", audio="ann.wav", output="s3://bucket/out/ann.mp4")
print(client.wait(job.ref.id).state.state)
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ifmdm_core.errors import BadInput, Expired, IfmdmError
from ifmdm_core.storage import S3Config, open_storage
from ifmdm_core.uri import Uri
from jobs import steer
from jobs.accept import INPUTS, Accepted, Pins, about, accept
from jobs.clock import Clock
from jobs.many import each_of
from jobs.names import JobRef, check_id, check_tenant
from jobs.spec import RenderJob, parse_job
from jobs.store import JobStore, JobView
from jobs.submit import Submitted, enter
from jobs.tenants import Places, TenantPolicy, read_policy
from jobs.uploads import Uploads

POLICY_S = 60.0
"""Seconds for which the tenant's policy is kept."""
POLL_S, POLL_MOST_S = 0.5, 5.0
"""Pause between two looks at a job that is waited for, growing to the longest."""
S3_WORKERS, DISK_WORKERS = 64, 8
"""Jobs submitted at a time: a bucket answers slowly and takes many at once, a disk does not."""

Job = RenderJob | Mapping[str, Any]


class JobClient:
    """A tenant's jobs in one store. May be used from several threads.

    Args:
        root: a folder or s3://bucket/prefix that `ifmdm jobs init` made a store.
        s3: how buckets are reached; None follows the AWS environment.

    Raises NotFound where there is no store, Unsupported for one of another version, Forbidden, Unavailable.
    """

    def __init__(
        self, root: str | Path | Uri, tenant: str = "default", s3: S3Config | None = None, *, by: str | None = None,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.tenant, self.s3 = check_tenant(tenant), s3
        self.store = JobStore(open_storage(root, s3), by or user_name(), clock)
        self.places = Places(s3)
        self.store.check_layout()
        self._uploads = Uploads(self.store.storage, tenant)
        self._pins = Pins(self.store.clock)
        self._guesses = Pins(self.store.clock)
        self._turn = threading.Lock()
        self._policy: tuple[float, TenantPolicy] | None = None

    def submit(
        self, job: Job | None = None, *, new: bool = False, probe: bool = False, **fields: Any
    ) -> Submitted:
        """Hands in a job, or finds it there already; see `jobs.submit.submit_job` for what it raises.

        Args:
            job: what to render; or its fields by name.
            new: another job even where there is the same one.
            probe: look at the inputs' first bytes too.
        """
        return enter(self.store, self.accept(job, new=new, probe=probe, **fields))

    def accept(
        self, job: Job | None = None, *, new: bool = False, probe: bool = False, upload: bool = True, **fields: Any
    ) -> Accepted:  # fmt: skip
        """Checks a job without entering it: the first half of `submit`.

        Args:
            upload: put local files into a store that is a bucket; without it what comes out cannot be entered.
        """
        if (job is None) == (not fields):
            raise BadInput("a job is given both whole and by fields, or not at all", fix="give one of them")
        asked = job if isinstance(job, RenderJob) else parse_job({**(job or {}), **fields})
        policy = self.policy()
        placed = self._placed(asked, upload)
        pins = self._pins if upload else self._guesses
        return accept(self.store, self.places, self.tenant, policy, placed, new=new, probe=probe, pins=pins)

    def submit_many(
        self, jobs: Iterable[Job], workers: int | None = None, *, new: bool = False, probe: bool = False
    ) -> Iterator[tuple[int, Submitted | IfmdmError]]:
        """Hands in any number of jobs, several at a time; each comes back with its number (from 0), as it is done.

        One that is refused comes back as its error, and the others go on. `jobs` is read no further ahead than needed.
        """
        yield from each_of(
            enumerate(jobs), lambda job: self.submit(job, new=new, probe=probe), workers or self.workers
        )

    def get(self, id: str) -> JobView:
        """The job as it is. Raises NotFound, Conflict for a damaged one."""
        return self.store.view(self.ref(id))

    def ref(self, id: str) -> JobRef:
        """This tenant's job of that id. Raises BadInput."""
        return JobRef(self.tenant, check_id(id))

    def states(self, id: str, timeout_s: float | None = None) -> Iterator[JobView]:
        """The job each time it has gone on, beginning with now, until it has ended.

        Raises Expired when that takes longer than `timeout_s`; the job goes on.
        """
        clock, pause, seen = self.store.clock, POLL_S, -1
        until = None if timeout_s is None else clock.monotonic() + timeout_s
        while True:
            view = self.get(id)
            if view.seq != seen or view.final:
                yield view
                pause, seen = POLL_S, view.seq
            if view.state.terminal:
                return
            if until is not None and clock.monotonic() >= until:
                raise Expired(
                    f"job {id} is {view.state.state} after {timeout_s:g} s", fix="wait longer; it goes on"
                )
            clock.sleep(pause * clock.chance.uniform(0.8, 1.2))
            pause = min(POLL_MOST_S, 1.5 * pause)

    def wait(self, id: str, timeout_s: float | None = None) -> JobView:
        """The job when it has ended, however it did. Raises as `states`."""
        *_, last = self.states(id, timeout_s)
        return last

    def cancel(self, id: str) -> JobView:
        """Ends a job; see `jobs.steer` for this and the following."""
        return self._stop(id, "cancel")

    def suspend(self, id: str) -> JobView:
        """Holds a job back until it is resumed."""
        return self._stop(id, "suspend")

    def resume(self, id: str) -> JobView:
        """Lets a suspended job wait again."""
        return steer.resume(self.store, self.ref(id))

    def retry(self, id: str) -> JobView:
        """Takes up a job again that failed, is dead, cancelled or expired."""
        return steer.retry(self.store, self.ref(id))

    def reprioritize(self, id: str, priority: int) -> JobView:
        """Gives a waiting job another priority."""
        return steer.reprioritise(self.store, self.ref(id), priority)

    @property
    def workers(self) -> int:
        """Jobs that are best submitted at a time."""
        return S3_WORKERS if self.in_bucket else DISK_WORKERS

    @property
    def in_bucket(self) -> bool:
        """Whether the store is a bucket; local files are uploaded then."""
        return self.store.storage.root.scheme == "s3"

    def policy(self) -> TenantPolicy:
        """What the tenant may do, as of the last minute. Raises Forbidden for one that is not known."""
        now = self.store.clock.monotonic()
        with self._turn:
            if self._policy is None or now - self._policy[0] > POLICY_S:
                self._policy = (now, read_policy(self.store.storage, self.tenant))
            return self._policy[1]

    def _stop(self, id: str, how: Literal["cancel", "suspend"]) -> JobView:
        return steer.stop(self.store, self.ref(id), how)

    def _placed(self, job: RenderJob, upload: bool) -> RenderJob:
        """With places that mean the same to every worker: whole paths, or what was uploaded."""
        changed = {}
        for field in (*INPUTS, "output"):
            text = getattr(job, field)
            uri = Uri.parse(text)
            if uri.scheme != "file":
                continue
            with about(field, text):
                if not self.in_bucket:
                    changed[field] = os.path.abspath(uri.path)
                elif field == "output":
                    raise BadInput(
                        f"output is {text!r}, a local path, but the jobs are in {self.store.storage.root}",
                        fix="give s3://bucket/key, and fetch the video from there",
                    )
                else:
                    changed[field] = self._uploads.uri(uri.path, send=upload)
                    if not upload:
                        self._guesses.guess(changed[field], Path(uri.path).stat().st_size)
        return job.model_copy(update=changed) if changed else job


def user_name() -> str:
    """Who writes, as names in a store have it: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return writer_name(f"{user}@{socket.gethostname()}")


def writer_name(text: str) -> str:
    """Any text as a name that may be part of a key."""
    return re.sub(r"[^A-Za-z0-9@._-]", "-", text)[:80].strip(".") or "user"
