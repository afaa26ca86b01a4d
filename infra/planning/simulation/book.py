"""A real job store in memory, with jobs entered as a submit leaves them, and forgotten as gc does after a week."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import simpy

from ifmdm_core.controls import RenderControls
from ifmdm_core.storage.memory import Bucket, MemoryStorage
from infra.planning.simulation.clock import SimClock
from infra.planning.workload import PlannedJob
from jobs.entries import LAYOUT, JobRecord, Pinned
from jobs.names import STORE, Ended, JobRef, day, tenant_key
from jobs.settle import waiting_key
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import TenantPolicy

BUNDLE = "1" * 64
"""Digest of the one bundle that all jobs are pinned to."""


class Book:
    """The store of one simulation.

    Args:
        policies: of the tenants.
    """

    def __init__(
        self, env: simpy.Environment, chance: random.Random, policies: Mapping[str, TenantPolicy]
    ) -> None:
        self.clock = SimClock(env, chance)
        self.bucket = Bucket("simulated", self.clock.now)
        self.planned: dict[str, PlannedJob] = {}
        """Of jobs that have not ended, by id."""
        self._count = 0
        self.bucket.write(STORE, json.dumps({"layout": LAYOUT}).encode())
        for tenant, policy in policies.items():
            self.bucket.write(tenant_key(tenant), policy.model_dump_json().encode())

    def store(self, by: str) -> JobStore:
        """The store as one worker has it."""
        return JobStore(MemoryStorage(self.bucket), by, self.clock)

    def enter(self, planned: PlannedJob) -> JobRef:
        """A job is submitted now."""
        self._count += 1
        now, id = self.clock.now(), f"{self._count:032x}"
        controls = RenderControls.model_construct(steps=planned.steps, size=planned.size)
        job = _JOB.model_copy(update={"output": f"s3://simulated/{id}.mp4", "controls": controls})
        record = JobRecord.model_construct(
            tenant=planned.tenant, id=id, nonce="n", submitted_at=now, digest="d", bundle_uri="demo", bundle=BUNDLE,
            holder=1, inputs={"portrait": _PINNED, "audio": _PINNED}, given=[], job=job,
        )  # fmt: skip
        ref = record.ref
        self.planned[id] = planned
        self.bucket.write(waiting_key(ref, 0, record.initial(), now), b"")
        self.bucket.write(ref.spec, record.model_dump_json().encode())
        return ref

    def forget(self, ref: JobRef) -> None:
        """Nothing is left of a job that has been published now."""
        del self.planned[ref.id]
        for key in list(self.bucket.under(ref.folder)):
            self.bucket.remove(key)
        self.bucket.remove(Ended(ref, day(self.clock.now()), "published").key)


_PINNED = Pinned(etag="1", size=1)
_JOB = RenderJob(portrait="s3://simulated/a.png", audio="s3://simulated/a.wav", output="s3://simulated/0.mp4")
