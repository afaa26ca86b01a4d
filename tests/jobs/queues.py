"""Queues in memory, made without submitting: thousands of jobs in no time, schedulers, a clock that goes on as told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from ifmdm_core.storage.memory import Bucket, MemoryStorage, Op
from jobs import entries
from jobs.entries import JobRecord, Pinned
from jobs.names import JobRef, Marker, Running, tenant_key
from jobs.scheduler import Claim, Scheduler
from jobs.settle import waiting_key
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.tenants import TenantPolicy
from tests.jobs.small_store import TestClock

ONE, TWO = "1" * 64, "2" * 64


def record(tenant: str, number: int, queued_at: float, bundle: str = ONE, **fields: Any) -> JobRecord:
    """A job as submitted, without a submit: thousands are made in no time."""
    job = RenderJob.model_construct(
        **{
            **{name: field.get_default(call_default_factory=True) for name, field in RenderJob.model_fields.items()},
            "portrait": "s3://media/a.png", "audio": "s3://media/a.wav", "output": f"s3://films/{tenant}/{number}.mp4",
            **fields,
        }
    )  # fmt: skip
    pinned = Pinned(etag="1", size=1)
    return JobRecord(
        tenant=tenant, id=f"{ord(tenant[0]):04x}{number:028x}", nonce="n", submitted_at=queued_at, digest="d",
        bundle_uri="demo", bundle=bundle, holder=1, inputs={"portrait": pinned, "audio": pinned}, given=[], job=job,
    )  # fmt: skip


def enter(bucket: Bucket, given: JobRecord) -> JobRef:
    """Writes what a submit leaves behind."""
    bucket.write(given.ref.spec, given.model_dump_json().encode())
    bucket.write(waiting_key(given.ref, 0, given.initial(), given.submitted_at), b"")
    return given.ref


class Queues:
    """A store in memory and any number of schedulers, whose clock goes on as told."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.bucket = Bucket("store", self.clock.now)
        self.requests: list[tuple[Op, str]] = []
        self.before: Callable[[Op, str], None] = lambda op, key: None
        self.store = self.of("ann")
        self._number = itertools.count()

    def of(self, by: str) -> JobStore:
        def request(op: Op, key: str, effect: Callable[[], Any]) -> Any:
            self.requests.append((op, key))
            self.before(op, key)
            return effect()

        return JobStore(MemoryStorage(self.bucket, gate=request), by, self.clock)

    def tenant(self, name: str, **policy: Any) -> None:
        self.bucket.write(tenant_key(name), TenantPolicy(**policy).model_dump_json().encode())

    def add(self, tenant: str, count: int = 1, bundle: str = ONE, **fields: Any) -> list[JobRef]:
        if tenant_key(tenant) not in self.bucket.objects:
            self.tenant(tenant)
        refs = []
        for _ in range(count):
            self.clock.passed += 0.01
            refs.append(
                enter(self.bucket, record(tenant, next(self._number), self.clock.now(), bundle, **fields))
            )
        return refs

    def claims(self, scheduler: Scheduler, most: int, **options: Any) -> Iterator[Claim]:
        """What it takes, one after the other, as an idle worker would ask."""
        pause = 1.0
        for _ in range(most):
            claim = scheduler.next(
                alone=options.get("alone", True), wanted=options.get("wanted", lambda b: True)
            )
            if claim is not None:
                yield claim
                pause = 1.0
                continue
            self.clock.passed += pause
            pause = min(10.0, 2 * pause)

    def lose(self, claim: Claim) -> None:
        """Its worker vanishes; somebody puts it into the queue again."""
        after = entries.lost(claim.state, 0, self.clock.now())
        assert self.store.append(claim.ref, claim.seq + 1, "lost", after)
        self.bucket.remove(Running(claim.state.worker or "", claim.ref, claim.seq).key)
        self.bucket.write(Marker(after.rank, claim.ref, claim.seq + 1).key, b"")

    def hints(self, prefix: str) -> list[str]:
        return list(self.bucket.under(prefix))
