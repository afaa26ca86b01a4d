"""GET /v1/files/{id}: finished, signed files."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as FromPath
from fastapi.responses import FileResponse

from ifmdm_core.errors import Unavailable
from serve.http.parts import Service, Who, problems
from serve.protection.asgi import Receive, Scope, Send

router = APIRouter(tags=["files"])

Id = Annotated[str, FromPath(pattern="^[0-9a-f]{32}$", description="X-Ifmdm-Render-Id of the render")]


@router.get(
    "/v1/files/{id}",
    summary="Fetch a finished file",
    response_class=FileResponse,
    responses={
        200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "A part of it, as asked for with Range"},
        416: {"description": "Range is outside the file"},
        **problems(404, 422, 503),
    },
)
async def fetch(id: Id, service: Service, who: Who) -> FileResponse:
    """The whole MP4 with its C2PA manifest, for some days; ranges may be asked for."""
    stream = service.streams.get(id)
    if stream is not None and stream.identity.tenant == who.tenant and stream.under_way:
        raise Unavailable(
            f"the render {id} is under way", fix="ask again when its stream has ended", retry_after=1
        )
    held = ExitStack()
    path = await asyncio.to_thread(held.enter_context, service.files.local(who.tenant, id))
    return _Held(path, held)


class _Held(FileResponse):
    """A file whose local copy goes after it was sent."""

    def __init__(self, path: Path, held: ExitStack) -> None:
        super().__init__(path, media_type="video/mp4", headers={"Cache-Control": "private, max-age=3600"})
        self._copy = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._copy:
            await super().__call__(scope, receive, send)
