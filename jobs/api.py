"""/v1/jobs: render jobs over HTTP, each caller within the tenant of its token."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi import Path as FromPath
from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import BadInput
from ifmdm_core.storage import S3Config, Storage, open_storage
from jobs import steer
from jobs.accept import Pins
from jobs.audit import told_refusals
from jobs.client import POLICY_S, writer_name
from jobs.clock import SystemClock
from jobs.entries import Fault, State
from jobs.listing import Job, Which, find, read_job
from jobs.names import JobRef
from jobs.spec import RenderJob
from jobs.store import JobStore
from jobs.submit import submit_job
from jobs.tenants import Places, TenantPolicy, read_policy
from serve.http.parts import Who, problems

LISTED, LISTED_MOST = 50, 500

Id = Annotated[str, FromPath(pattern="^[0-9a-f]{32}$", description="of the job")]

_EXAMPLES: Any = {
    "plain": {
        "summary": "A portrait and speech",
        "value": {
            "portrait": "s3://bucket/faces/ann.jpg",
            "audio": "s3://bucket/speech/ann.wav",
            "output": "s3://bucket/out/ann.mp4",
        },
    },
    "more": {
        "summary": "With controls, labels and a key",
        "value": {
            "portrait": "s3://bucket/faces/ann.jpg",
            "audio": "s3://bucket/speech/ann.wav",
            "output": "s3://bucket/out/ann.mp4",
            "if_exists": "overwrite",
            "controls": {"pose": "hold", "intensity": 0.5, "seed": 7},
            "priority": 10,
            "labels": {"campaign": "spring"},
            "key": "order-4711",
        },
    },
}


class Entered(BaseModel):
    """A job in the store."""

    id: str = Field(description="names it from now on")
    created: bool = Field(description="false: it was there already")
    state: State
    age_s: float = Field(description="seconds since it was submitted first")
    bundle: str = Field(description="sha256 of the model's bundle.json, which it is pinned to")
    output: str


class JobInfo(BaseModel):
    """A job as it is now. Times are seconds since 1970."""

    model_config = ConfigDict(extra="ignore")  # what the command line shows beyond this

    id: str
    state: State
    since: float = Field(description="when this state began")
    output: str
    labels: dict[str, str]
    priority: int
    submitted_at: float
    not_before: float | None
    deadline: float | None
    started_at: float | None = Field(description="of the last attempt")
    ended_at: float | None
    attempts: int = Field(description="that failed; lost machines do not count")
    losses: int = Field(description="times that a machine vanished under it")
    fault: Fault | None = Field(description="why the last attempt failed")
    busy_s: dict[str, float] = Field(description="seconds of work by stage")


class Event(BaseModel):
    """Something that happened to a job."""

    seq: int
    kind: str
    at: float = Field(description="seconds since 1970")
    by: str = Field(description="who wrote it: a worker, or a user")
    state: State = Field(description="from then on")


class JobDetails(JobInfo):
    """One job with everything that happened to it."""

    job: RenderJob = Field(description="as it was submitted")
    log: list[Event]


class Priority(BaseModel):
    """Another place in the queue."""

    model_config = ConfigDict(extra="forbid")

    priority: int = Field(ge=-1000, le=1000, description="each step counts like a minute of waiting")


def router_for(root: str, s3: S3Config | None = None) -> APIRouter:
    """The routes over the job store at `root`.

    `functools.partial(router_for, root, s3)` is what `serve.gateway.build` takes.
    """
    jobs = _Jobs(open_storage(root, s3), Places(s3))
    router = APIRouter(tags=["jobs"])

    @router.post(
        "/v1/jobs",
        status_code=201,
        summary="Submit a render job",
        responses={
            200: {"model": Entered, "description": "It was there already"},
            **problems(404, 409, 422, 503),
        },
    )
    def submit(
        job: Annotated[RenderJob, Body(openapi_examples=_EXAMPLES)],
        who: Who,
        response: Response,
        new: Annotated[bool, Query(description="another job, even where there is the same")] = False,
        probe: Annotated[bool, Query(description="look at the first bytes of the inputs too")] = False,
    ) -> Entered:
        """Checks it and puts it into the queue, for good: it is rendered whatever becomes of this service.

        Sending it again is safe: the same job, or the same `key`, is found and not made twice.
        """
        store = jobs.store(who.name)
        with told_refusals(store, who.tenant, job.output):
            done = submit_job(
                store,
                jobs.places,
                who.tenant,
                jobs.policy(who.tenant),
                job,
                new=new,
                probe=probe,
                pins=jobs.pins,
            )
        if not done.created:
            response.status_code = 200
        return Entered(
            id=done.ref.id, created=done.created, state=done.state, age_s=round(done.age, 3), bundle=done.bundle,
            output=done.output,
        )  # fmt: skip

    @router.get("/v1/jobs", summary="List jobs", responses=problems(422, 503))
    def listed(
        who: Who,
        state: Annotated[list[State] | None, Query(description="only these; repeatable")] = None,
        label: Annotated[
            list[str] | None, Query(description="only with this label, NAME=VALUE; repeatable")
        ] = None,
        text: Annotated[
            str, Query(max_length=200, description="part of the id, the output or a label's value")
        ] = "",
        within_s: Annotated[
            float | None, Query(ge=0, description="only where the state began at most so many seconds ago")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=LISTED_MOST, description="at most so many")] = LISTED,
    ) -> list[JobInfo]:
        """What runs, what waits (next first), then what has ended or is held back (latest first)."""
        which = Which(
            tenants=(who.tenant,), states=frozenset(state or ()), labels=dict(map(_label, label or ())), text=text,
            since_s=within_s,
        )  # fmt: skip
        return [_info(found) for found in itertools.islice(find(jobs.store(who.name), which), limit)]

    @router.get("/v1/jobs/{id}", summary="Look at a job", responses=problems(404, 409, 422, 503))
    def shown(id: Id, who: Who) -> JobDetails:
        """Its state, what was asked for, and what has happened."""
        store = jobs.store(who.name)
        found = read_job(store, JobRef(who.tenant, id))
        log = [] if found.view.final else store.log(found.ref)
        events = [Event(seq=e.seq, kind=e.kind, at=e.at, by=e.by, state=e.state.state) for e in log]
        return JobDetails(**_info(found).model_dump(), job=found.record.job, log=events)

    def steered(about: str, path: str, do: Any) -> None:
        """One route that does something to a job."""

        def route(id: Id, who: Who) -> JobInfo:
            store = jobs.store(who.name)
            do(store, JobRef(who.tenant, id))
            return _info(read_job(store, JobRef(who.tenant, id)))

        router.post(
            f"/v1/jobs/{{id}}/{path}", summary=about, name=path, operation_id=f"{path}_job",
            responses=problems(404, 409, 422, 503),
        )(route)  # fmt: skip

    steered("End a job", "cancel", lambda store, ref: steer.stop(store, ref, "cancel"))
    steered("Hold a job back", "suspend", lambda store, ref: steer.stop(store, ref, "suspend"))
    steered("Let a suspended job wait again", "resume", steer.resume)
    steered("Take a job up again that failed or was cancelled", "retry", steer.retry)

    @router.post(
        "/v1/jobs/{id}/priority", summary="Give it another priority", responses=problems(404, 409, 422, 503)
    )
    def priority(id: Id, wanted: Priority, who: Who) -> JobInfo:
        """Of a waiting job; how long it has waited still counts."""
        store = jobs.store(who.name)
        steer.reprioritise(store, JobRef(who.tenant, id), wanted.priority)
        return _info(read_job(store, JobRef(who.tenant, id)))

    return router


class _Jobs:
    """What the routes share."""

    def __init__(self, storage: Storage, places: Places) -> None:
        self.places = places
        self._clock = SystemClock()
        self.pins = Pins(self._clock)
        self._storage = storage
        self._policies: dict[str, tuple[float, TenantPolicy]] = {}

    def store(self, caller: str) -> JobStore:
        """The store, with the caller's name under what is written."""
        return JobStore(self._storage, writer_name(f"api.{caller}"), self._clock)

    def policy(self, tenant: str) -> TenantPolicy:
        """As of the last minute. Raises Forbidden for a tenant that is not known to the store."""
        now = self._clock.monotonic()
        kept = self._policies.get(tenant)
        if kept is None or now - kept[0] > POLICY_S:
            kept = self._policies[tenant] = (now, read_policy(self._storage, tenant))
        return kept[1]


def _info(job: Job) -> JobInfo:
    return JobInfo.model_validate(job.summary())


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"label is {text!r}", fix="write it as NAME=VALUE")
    return name, value
