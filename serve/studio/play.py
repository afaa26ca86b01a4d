"""GET /studio/play/<id>: the video of a playback, from the first fragment on while the rest is rendered."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from serve.protection.asgi import caller_of
from serve.studio.playbacks import Playbacks

_FROM = re.compile(r"bytes=(\d+)-")


def play_router(playbacks: Playbacks) -> APIRouter:
    """The route; NotFound for a playback that is another tenant's or forgotten."""
    router = APIRouter(prefix="/studio", include_in_schema=False)

    @router.get("/play/{identifier}")
    async def play(identifier: str, request: Request) -> StreamingResponse:
        playback = playbacks.get(identifier, caller_of(request.scope).tenant)
        asked = _FROM.match(request.headers.get("range", ""))
        start = int(asked[1]) if asked else 0
        headers = {"Cache-Control": "no-store", "Accept-Ranges": "bytes"}
        status = 200
        if playback.ended and start < playback.size:
            headers["Content-Length"] = str(playback.size - start)
        if start:
            # Resumed, or moved to another place; while the render runs nobody knows how long it will be.
            whole = str(playback.size) if playback.ended else "*"
            while not playback.ended and playback.size <= start:
                await playback.changed(60)
            if start >= playback.size:
                return StreamingResponse(iter(()), 416, {"Content-Range": f"bytes */{playback.size}"})
            headers["Content-Range"] = f"bytes {start}-{playback.size - 1}/{whole}"
            headers["Content-Length"] = str(playback.size - start)
            status = 206
        body = playback.read(start, playback.size if status == 206 else None)
        return StreamingResponse(body, status, headers, media_type="video/mp4")

    return router
