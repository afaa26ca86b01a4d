"""POST /v1/render: a portrait and speech in, video out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from ifmdm_core.consent import Permission
from ifmdm_core.errors import BadInput, Cancelled
from serve.http.forms import RenderForm
from serve.http.inputs import given_file
from serve.http.parts import Folder, Service, Who, problems
from serve.protection.asgi import Receive, Scope, Send, state

if TYPE_CHECKING:
    from serve.render_stream import RenderStream

router = APIRouter(tags=["render"])


class RenderedFile(BaseModel):
    """The answer with `delivery=file`."""

    id: str = Field(description="of the render and its file", examples=["8c5a…"])
    url: str = Field(description="where the signed file is", examples=["/v1/files/8c5a…"])
    frames: int = Field(description="of the video", examples=[250])
    fps: int = Field(examples=[25])
    width: int = Field(examples=[256])
    height: int = Field(examples=[256])
    model: str = Field(description="name of the bundle", examples=["demo"])
    model_sha256: str = Field(description="digest of the bundle")
    identity: str = Field(description="the portrait, to be used again instead of uploading it")
    note: str = Field(description="what you should know, such as which of several faces was taken")


_STREAM = {
    "description": "The video, in fragments as they are painted; or where the finished file is.",
    "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}},
    "headers": {
        "X-Ifmdm-Render-Id": {"schema": {"type": "string"}, "description": "of the render and its file"},
        "X-Ifmdm-Frames": {"schema": {"type": "integer"}, "description": "frames of the whole video"},
        "Link": {
            "schema": {"type": "string"},
            "description": "the signed file, there once the stream has ended",
        },
    },
}


@router.post(
    "/v1/render",
    summary="Make a portrait speak",
    response_model=RenderedFile,
    responses={200: _STREAM, **problems(404, 408, 409, 413, 422, 503)},
)
async def render(
    request: Request, form: Annotated[RenderForm, Form()], service: Service, who: Who, folder: Folder
) -> Response:
    """Renders a portrait (`portrait`, `portrait_uri` or `identity`) speaking (`audio` or `audio_uri`).

    The video lasts as long as the audio and is marked as AI-generated. With `delivery=stream` it arrives while it is
    made, and a signed file follows at the address in `Link`; closing the connection stops the work. With
    `delivery=file` the answer comes when the signed file is there.
    """
    from serve.renders import RenderRequest

    slot = state(request.scope)["slot"]
    controls = form.to_controls()
    limits = service.limits
    audio, audio_name = await given_file(form.audio, form.audio_uri, "audio", limits.audio_mb, who, folder)
    portrait: Path | str
    if form.identity is not None:
        if form.portrait is not None or form.portrait_uri is not None:
            raise BadInput("identity and portrait are both given", fix="give one of them")
        portrait, portrait_name = form.identity, "the portrait"
    else:
        portrait, portrait_name = await given_file(
            form.portrait, form.portrait_uri, "portrait", limits.portrait_mb, who, folder
        )
    stream = await service.open(
        RenderRequest(
            tenant=who.tenant,
            portrait=portrait,
            audio=audio,
            controls=controls,
            model=form.model,
            portrait_name=portrait_name,
            audio_name=audio_name,
            permission=Permission(who.name, form.consent, who.consent == "required"),
        ),
        slot,
    )
    try:
        if form.delivery == "file":
            return JSONResponse(await _file(request, stream))
        await _unless_gone(request, stream.begin())
    except BaseException:
        await stream.close()
        raise
    return _Streamed(stream)


async def _file(request: Request, stream: RenderStream) -> dict[str, Any]:
    url = await _unless_gone(request, stream.finished())
    return RenderedFile(
        id=stream.id,
        url=url,
        frames=stream.num_frames,
        fps=stream.fps,
        width=stream.size[0],
        height=stream.size[1],
        model=stream.facts.name,
        model_sha256=stream.facts.digest,
        identity=stream.identity.digest,
        note=stream.note,
    ).model_dump()


async def _unless_gone(request: Request, work: Any) -> Any:
    """What `work` gives; Cancelled as soon as the client closes the connection."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([doing, gone], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Cancelled("the client has gone")
        return await doing
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Streamed(StreamingResponse):
    """The stream as an answer; closed whatever becomes of the connection."""

    def __init__(self, stream: RenderStream) -> None:
        headers = {
            "X-Ifmdm-Render-Id": stream.id,
            "X-Ifmdm-Frames": str(stream.num_frames),
            "X-Ifmdm-Identity": stream.identity.digest,
            "Link": f'<{stream.file_url}>; rel="alternate"; type="video/mp4"',
            "Cache-Control": "no-store",
        }
        if stream.note:
            headers["X-Ifmdm-Note"] = stream.note.encode("ascii", "replace").decode()
        super().__init__(stream, media_type="video/mp4", headers=headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.close()
