"""What of Gradio's own HTTP surface is let through: the little that this page needs.

Gradio answers many more paths (proxies, fetching of URLs, recordings, monitoring, an API of every event), and takes
files by any path where it is mounted on another application: it checks them only after its own `launch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path
from typing import Any

import gradio as gr

from ifmdm_core.errors import Busy, Forbidden, IfmdmError, NotFound
from serve.protection.asgi import App, Receive, Scope, Send
from serve.protection.replies import problem

PREFIX = "/studio"
UPLOADS_BYTES = 4_000_000_000
"""Bytes that uploaded files may take together; Gradio deletes them after `page.UPLOADS_S`."""
_UPLOAD = "/studio/gradio_api/upload"
_NEEDED = re.compile(
    r"/studio(/?|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|/(static|assets|svelte)/.*|/play/[0-9a-f]+"
    r"|/gradio_api/(startup-events|app_id|info/?|upload|upload_progress|reset/?|cancel"
    r"|queue/(join|data)|heartbeat/[a-z0-9]+|file=/.*))"
)


class Needed:
    """Answers NotFound for every path of Gradio's that the page does not need, and Busy for uploads beyond the room.

    Args:
        uploads: folder that Gradio keeps uploads in.
        most: bytes that they may take together.
    """

    def __init__(self, app: App, uploads: Path, most: int = UPLOADS_BYTES) -> None:
        self._app, self._uploads, self._most = app, uploads, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        error: IfmdmError | None = None
        if (path == PREFIX or path.startswith(f"{PREFIX}/")) and not _NEEDED.fullmatch(path):
            error = NotFound(f"nothing at {path[:200]!r}")
        elif path == _UPLOAD and await asyncio.to_thread(_bytes_in, self._uploads) >= self._most:
            error = Busy(
                "the Studio's uploads take all the room they have", fix="try again later", retry_after=600
            )
        if error is None:
            await self._app(scope, receive, send)
            return
        status, headers, body = problem(error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            total += path.lstat().st_size
    return total


class StudioBlocks(gr.Blocks):
    """Blocks that take no files but those uploaded to them."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Gradio's, after a look at the files that a request names. Raises Forbidden."""
        _require_uploaded(inputs, Path(self.GRADIO_CACHE))
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)


def _require_uploaded(value: Any, folder: Path) -> None:
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and not Path(os.path.realpath(path)).is_relative_to(
            os.path.realpath(folder)
        ):
            raise Forbidden(f"{path[:200]!r} was not uploaded here", fix="upload the file")
        for part in value.values():
            _require_uploaded(part, folder)
    elif isinstance(value, list | tuple):
        for part in value:
            _require_uploaded(part, folder)
