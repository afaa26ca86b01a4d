"""The page's own routes; people's programs use /v1/jobs."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi import Path as FromPath
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from ifmdm_core.errors import BadInput, Forbidden, NotFound
from jobs import steer
from jobs.entries import State
from jobs.listing import Which
from jobs.logs import attempt_log
from jobs.names import JobRef
from jobs.page.sights import Sights
from serve.http.parts import Who
from serve.protection.asgi import Receive, Scope, Send
from serve.protection.callers import Caller

STATIC = Path(__file__).parent / "static"
TYPES = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LIMIT, LIMIT_MOST = 50, 500

Tenant = Annotated[str, FromPath(pattern="^[a-z0-9][a-z0-9._-]{0,62}$")]
Id = Annotated[str, FromPath(pattern="^[0-9a-f]{32}$")]
Verb = Literal["cancel", "suspend", "resume", "retry"]


def routes(sights: Sights, studio: bool) -> APIRouter:
    """The routes over one job store.

    Args:
        studio: whether there is a Studio to link to.
    """
    router = APIRouter(include_in_schema=False)
    page = (STATIC / "page.html").read_text(encoding="utf-8")
    page = page.replace("{studio}", '<a href="/studio/">Studio</a>' if studio else "")

    @router.get("/jobs")
    def shown() -> HTMLResponse:
        """The page; what it shows comes from the routes below."""
        return HTMLResponse(page, headers=HEADERS)

    @router.get("/jobs/")
    def elsewhere() -> RedirectResponse:
        return RedirectResponse("/jobs")

    @router.get("/jobs/static/{name}")
    def static(name: str) -> Response:
        if name not in TYPES:
            raise NotFound(f"there is nothing at '/jobs/static/{name[:100]}'")
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        return Response((STATIC / name).read_bytes(), media_type=TYPES[name], headers=headers)

    @router.get("/jobs/table")
    def table(
        who: Who,
        state: Annotated[list[State] | None, Query()] = None,
        label: Annotated[list[str] | None, Query()] = None,
        text: Annotated[str, Query(max_length=200)] = "",
        tenant: Annotated[str, Query(max_length=63)] = "",
        limit: Annotated[int, Query(ge=1, le=LIMIT_MOST)] = LIMIT,
    ) -> dict[str, Any]:
        which = Which(
            tenants=_tenants(who, tenant), states=frozenset(state or ()), labels=dict(map(_label, label or ())),
            text=text,
        )  # fmt: skip
        everybody = sights.tenants() if who.may("admin") else None
        return {**sights.table(which, limit), "tenants": everybody, "tenant": who.tenant}

    @router.get("/jobs/one/{tenant}/{id}")
    def one(tenant: Tenant, id: Id, who: Who) -> dict[str, Any]:
        return sights.job(_theirs(who, tenant, id))

    @router.get("/jobs/log/{tenant}/{id}/{attempt}")
    def log(tenant: Tenant, id: Id, attempt: int, who: Who) -> list[dict[str, Any]]:
        return list(attempt_log(sights.store(who.name), _theirs(who, tenant, id), attempt))

    @router.get("/jobs/video/{tenant}/{id}/{attempt}")
    def video(tenant: Tenant, id: Id, attempt: int, who: Who) -> FileResponse:
        key = f"{_theirs(who, tenant, id).attempt(attempt)}/video.mp4"
        local, held = sights.storage.local_path(key), ExitStack()
        if local is None:
            local = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ifmdm-watch-")), "video.mp4")
            sights.storage.fetch(key, local)
        elif not local.is_file():
            raise NotFound(f"the video of attempt {attempt} is kept no more", fix="look at the job's output")
        return _Held(local, held)

    @router.post("/jobs/do/{verb}/{tenant}/{id}")
    def do(verb: Verb, tenant: Tenant, id: Id, who: Who) -> dict[str, Any]:
        store, ref = sights.store(who.name), _theirs(who, tenant, id)
        if verb == "cancel" or verb == "suspend":
            steer.stop(store, ref, verb)
        else:
            (steer.resume if verb == "resume" else steer.retry)(store, ref)
        sights.forget()
        return sights.job(ref)

    return router


class _Held(FileResponse):
    """A file whose local copy goes after it was sent."""

    def __init__(self, path: Path, held: ExitStack) -> None:
        headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
        super().__init__(path, media_type="video/mp4", headers=headers)
        self._copy = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._copy:
            await super().__call__(scope, receive, send)


def _tenants(who: Caller, asked: str) -> tuple[str, ...] | None:
    """Whose jobs are listed; None is everybody's. Raises Forbidden."""
    if who.may("admin"):
        return (asked,) if asked else None
    if asked not in ("", who.tenant):
        raise Forbidden(f"tenant {asked!r} is not yours", fix="only an admin's token sees others' jobs")
    return (who.tenant,)


def _theirs(who: Caller, tenant: str, id: str) -> JobRef:
    """That job, of somebody who may see it. Raises NotFound: whether it exists is nobody else's business."""
    if tenant != who.tenant and not who.may("admin"):
        raise NotFound(f"there is no job {tenant}/{id}")
    return JobRef(tenant, id)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"label is {text!r}", fix="write it as NAME=VALUE")
    return name, value
