"""/healthz, /readyz, /metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from ifmdm_core.errors import Unavailable
from serve.http.parts import Service, problems

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """It answers."""

    status: Literal["ok"] = Field("ok", description="ok")


@router.get("/healthz", summary="Whether this gateway answers")
async def healthz() -> Health:
    """Restart it where this does not answer."""
    return Health()


@router.get("/readyz", summary="Whether renders can be taken", responses=problems(503))
async def readyz(service: Service) -> Health:
    """Send it no requests while this says 503: no model is ready, or it is leaving."""
    if service.admission.closed:
        raise Unavailable("this gateway is leaving", fix="use another", retry_after=5)
    if not service.models.listed():
        raise Unavailable("no model is ready yet", fix="wait", retry_after=5)
    return Health()


@router.get("/metrics", summary="Figures for Prometheus", responses=problems(), response_class=Response)
async def metrics(request: Request, service: Service) -> Response:
    """Needs the scope metrics or admin."""
    body, content_type = service.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})
