"""The gateway's application: routes over one `RenderService`, inside the protection. Needs no Ray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from ifmdm_core import __version__
from ifmdm_core.errors import BadInput, IfmdmError, NotFound
from serve.config import GatewayConfig
from serve.http import files, health, identities, login, models, render
from serve.http.models import RollOut
from serve.protection.access import OPEN
from serve.protection.asgi import App
from serve.protection.replies import problem
from serve.protection.stack import protected

if TYPE_CHECKING:
    from serve.renders import RenderService

SWEEP_S = 3600.0
"""Seconds between two looks for what was kept long enough."""
RECORD_S = 5.0
"""Seconds of the audit log that a gateway which is killed may lose."""

_log = logging.getLogger(__name__)

Routers = Sequence[Callable[[], APIRouter]]
Pages = Sequence[Callable[[FastAPI, "RenderService", GatewayConfig], None]]
"""What others add: makers of routers, functions that mount pages; of modules, so that replicas can import them."""


def application(
    config: GatewayConfig,
    service: RenderService,
    roll_out: RollOut | None = None,
    routers: Routers = (),
    pages: Pages = (),
) -> App:
    """Everything the gateway serves, as one ASGI application.

    Args:
        roll_out: how POST /v1/models serves another bundle; None where that cannot be done.

    Raises NotFound, BadInput for the token file.
    """
    app = FastAPI(
        title="ifmdm", version=__version__, lifespan=_lifespan(service), redoc_url=None,
        redirect_slashes=False,
        description="A portrait photo and speech become a talking video, streamed while it is made.",
    )  # fmt: skip
    app.state.service, app.state.roll_out, app.state.rolling = service, roll_out, asyncio.Lock()
    for module in (render, identities, models, files, health, login):
        app.include_router(module.router)
    for make in routers:
        app.include_router(make())
    for add in pages:
        add(app, service, config)
    app.add_exception_handler(IfmdmError, _told)
    app.add_exception_handler(RequestValidationError, _told)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(Exception, _told)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return protected(app, config, service.admission, service.metrics.rejected)


def _lifespan(service: RenderService) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.intake.warm()
        tasks = [asyncio.create_task(_sweep(service)), asyncio.create_task(_record(service))]
        yield
        for task in tasks:
            task.cancel()
        await service.close()

    return lifespan


async def _sweep(service: RenderService) -> None:
    while True:
        with contextlib.suppress(IfmdmError):  # the store is away; next time then
            await service.sweep()
        await asyncio.sleep(SWEEP_S)


async def _record(service: RenderService) -> None:
    while True:
        await asyncio.sleep(RECORD_S)
        try:
            await service.record()
        except IfmdmError as error:  # the store is away; nothing is lost yet
            _log.warning("the audit log is not written: %s", error)


async def _told(request: Request, error: Exception) -> Response:
    """Every error as the one kind of JSON record; FastAPI's own are put into our words first."""
    if isinstance(error, RequestValidationError):
        error = _bad_field(error)
    elif isinstance(error, HTTPException):
        cause = error.__cause__  # what reading the body raised, wrapped
        error = cause if isinstance(cause, IfmdmError) else _http(request, error)
    status, headers, body = problem(error)
    answer = Response(body, status)
    answer.raw_headers = list(headers)
    if isinstance(error, _Http) and error.allow:
        answer.headers["Allow"] = error.allow
    return answer


def _bad_field(error: RequestValidationError) -> BadInput:
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path")) or "body"
    given = fault.get("input")
    shown = f" is {str(given)[:100]!r}" if isinstance(given, str | int | float) else ""
    return BadInput(f"{name}{shown}: {fault['msg']}", fix="see /docs for what it may be")


class _Http(BadInput):
    allow = ""


def _http(request: Request, error: HTTPException) -> IfmdmError:
    if error.status_code == 404:
        return NotFound(f"there is nothing at {request.url.path[:200]!r}", fix="see /docs")
    told = _Http(str(error.detail), fix="see /docs")
    # A body that is no JSON or no form is like one with a wrong field.
    told.http_status = 422 if error.status_code == 400 else error.status_code
    if error.status_code == 405:  # Starlette names those of one route; a path may have several
        paths = request.app.openapi()["paths"]
        found = [paths[path] for path in paths if compile_path(path)[0].match(request.url.path)]
        told.allow = ", ".join(sorted({method.upper() for methods in found for method in methods}))
    return told


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schema.setdefault("components", {})["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"}
        }
        for path, methods in schema["paths"].items():
            for operation in methods.values():
                operation["security"] = [] if path in OPEN else [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
