"""What of Gradio's own HTTP surface is let through: the little that this page needs.

Gradio answers many more paths (proxies, fetching of URLs, recordings, monitoring, an API of every event), and takes
files by any path where it is mounted on another application: it checks them only after its own `launch`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import gradio as gr

from ifmdm_core.errors import Forbidden, NotFound
from serve.protection.asgi import App, Receive, Scope, Send
from serve.protection.replies import problem

PREFIX = "/studio"
_NEEDED = re.compile(
    r"/studio(/?|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|/(static|assets|svelte)/.*|/play/[0-9a-f]+"
    r"|/gradio_api/(startup-events|app_id|info/?|upload|upload_progress|reset/?|cancel"
    r"|queue/(join|data)|heartbeat/[a-z0-9]+|file=/.*))"
)


class Needed:
    """Answers NotFound for every path of Gradio's that the page does not need."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if (path == PREFIX or path.startswith(f"{PREFIX}/")) and not _NEEDED.fullmatch(path):
            status, headers, body = problem(NotFound(f"nothing at {path[:200]!r}"))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)


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
