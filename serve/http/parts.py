"""What routes ask for: the service and the caller of this request, a folder for its files; and how errors are told."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from ifmdm_core.errors import Forbidden
from serve.protection.asgi import caller_of
from serve.protection.callers import Caller

if TYPE_CHECKING:
    from serve.renders import RenderService
else:  # FastAPI looks at annotations; what it needs not know would cost it torch
    RenderService = object


class Problem(BaseModel):
    """What every refusal says."""

    error: str = Field(description="what is wrong, with which value", examples=["steps is 5000"])
    fix: str = Field(description="what to do about it", examples=["this service takes at most 250"])
    request_id: str = Field(description="name it when you ask the operator", examples=["3f0c…"])


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of these refusals and of those that every route may give."""
    said = {
        401: "No token, or an unknown one",
        403: "The token may not do this",
        404: "There is no such thing (any more)",
        408: "The upload stalled",
        409: "It contradicts what is there",
        413: "Too large or too long",
        422: "It cannot be used as it is",
        429: "No room now; see Retry-After",
        503: "A part of the service does not answer; see Retry-After",
    }
    return {
        status: {"model": Problem, "description": said[status]}
        for status in sorted({401, 403, 429, *statuses})
    }


def service(request: Request) -> RenderService:
    """The renders of this gateway."""
    return cast("RenderService", request.app.state.service)


def caller(request: Request) -> Caller:
    """Whoever sent this request."""
    return caller_of(request.scope)


def admin(request: Request) -> Caller:
    """Whoever sent this request, who is an admin; raises Forbidden."""
    found = caller_of(request.scope)
    if not found.may("admin"):
        raise Forbidden("this token has no scope 'admin'", fix="ask the operator for one that has")
    return found


async def folder() -> AsyncIterator[Path]:
    """A folder that is gone when the answer has been sent."""
    path = Path(tempfile.mkdtemp(prefix="ifmdm-request-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


Service = Annotated[RenderService, Depends(service)]
Who = Annotated[Caller, Depends(caller)]
Admin = Annotated[Caller, Depends(admin)]
Folder = Annotated[Path, Depends(folder)]
