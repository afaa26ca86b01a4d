"""/v1/models: which bundles are served, and serving another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.errors import Conflict, Unsupported
from serve.http.parts import Admin, Service, Who, problems
from serve.messages import ModelFacts

router = APIRouter(tags=["models"])

RollOut = Callable[[str, str | None], Awaitable[ModelFacts]]
"""Serves the bundle at a URI whose bundle.json has that sha256, None for any; raises as `rollout.roll_out`."""


class ServedModel(BaseModel):
    """A bundle that renders can ask for."""

    name: str = Field(examples=["demo"])
    sha256: str = Field(description="digest of its bundle.json, hence of everything in it")
    size: int = Field(description="side of its frames in pixels", examples=[256])
    default: bool = Field(description="whether it is taken where nothing is asked for")


class Switch(BaseModel):
    """What to serve from now on."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(
        min_length=1,
        max_length=2000,
        description="demo, a folder that every node sees, or s3://bucket/prefix",
        examples=["s3://models/heads/12"],
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="what its bundle.json must hash to; null takes what is there",
    )


@router.get("/v1/models", summary="What is served", responses=problems())
async def listed(service: Service, who: Who) -> list[ServedModel]:
    """The bundles that renders can ask for, the default first. Empty while none is ready."""
    return [_served(facts, number == 0) for number, facts in enumerate(service.models.listed())]


@router.post("/v1/models", summary="Serve another bundle", responses=problems(404, 409, 422, 503))
async def switch(request: Request, wanted: Switch, service: Service, who: Admin) -> ServedModel:
    """Deploys it beside the old one, tries it with a render, then switches; renders under way finish with the old one.

    Answers when that is done, which takes as long as loading it does. A bundle that cannot be read or does not render
    is refused, and what was served goes on. Needs the scope admin.
    """
    roll_out: RollOut | None = request.app.state.roll_out
    if roll_out is None:
        raise Unsupported("this gateway runs one model, in its own process", fix="start it with ifmdm serve")
    lock: asyncio.Lock = request.app.state.rolling
    if lock.locked():
        raise Conflict("another model is being rolled out", fix="wait until that is done")
    async with lock:
        facts = await roll_out(wanted.uri, wanted.sha256)
        service.audit.note(who.tenant, "model switched", who.name, facts.name, {"model": facts.digest})
        return _served(facts, True)


def _served(facts: ModelFacts, default: bool) -> ServedModel:
    return ServedModel(name=facts.name, sha256=facts.digest, size=facts.size, default=default)
