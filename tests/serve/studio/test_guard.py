from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.studio.guard import Needed


def _status(uploads: Path, most: int, path: str) -> int:
    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> int:
        transport = httpx.ASGITransport(app=Needed(inside, uploads, most))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.post(path)).status_code

    return asyncio.run(ask())


def test_uploads_have_so_much_room_together(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    room = 100_000
    assert _status(tmp_path, room, "/studio/gradio_api/upload") == 200
    (tmp_path / "folder" / "speech.wav").write_bytes(bytes(room))
    assert _status(tmp_path, room, "/studio/gradio_api/upload") == 429
    assert _status(tmp_path, room, "/studio/gradio_api/queue/join") == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/render", 200),
        ("/studios", 200),
        ("/studio", 200),
        ("/studio/play/ab12", 200),
        ("/studio/login", 404),
        ("/studio/gradio_api/call/on_render", 404),
        ("/studio/gradio_api/run/on_render", 404),
        ("/studio/gradio_api/process_recording", 404),
        ("/studio/gradio_api/component_server", 404),
        ("/studio/gradio_api/file=https://example.com", 404),
        ("/studio/gradio_api/proxy=https://example.com", 404),
    ],
)
def test_only_what_the_page_needs_goes_through(tmp_path: Path, path: str, status: int) -> None:
    assert _status(tmp_path, 1_000_000, path) == status
