"""A Studio over networks in this process on a real HTTP server, and a client that speaks what its page speaks."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from serve.config import GatewayConfig, ServeConfig


@contextmanager
def studio_server(bundle: str | Path, root: Path, gateway: GatewayConfig | None = None) -> Iterator[str]:
    """Serves the Studio of a bundle until the context ends; gives its address."""
    config = ServeConfig(root=str(root), model=str(bundle), gateway=gateway or GatewayConfig(port=0))
    started = threading.Event()
    told: dict[str, Any] = {}

    async def serve() -> None:
        server = await _start(config)
        told.update(port=await server.start(), loop=asyncio.get_running_loop(), stop=asyncio.Event())
        started.set()
        await told["stop"].wait()
        await server.stop(grace_s=5)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            told["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=run, name="studio")
    thread.start()
    try:
        assert started.wait(120)
        if "error" in told:
            raise told["error"]
        yield f"http://127.0.0.1:{told['port']}"
    finally:
        if "stop" in told:
            told["loop"].call_soon_threadsafe(told["stop"].set)
        thread.join(60)
        assert not thread.is_alive()


async def _start(config: ServeConfig) -> Any:
    from serve.app import application
    from serve.http_server import HttpServer
    from serve.local_stages import LocalStages
    from serve.renders import OneModel, RenderService
    from serve.signing import Signer
    from serve.studio.mount import add_studio

    signer = Signer.open(config.signing, config.root)
    service = RenderService(config, OneModel(LocalStages(config)), signer=signer)
    app = application(config.gateway, service, pages=(add_studio,))
    return HttpServer(app, "127.0.0.1", config.gateway.port)


class Page:
    """One open page: what the browser's part of Gradio sends, without a browser."""

    def __init__(self, http: httpx.Client) -> None:
        self.http, self.session = http, uuid.uuid4().hex[:12]
        config = http.get("/studio/config").raise_for_status().json()
        names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        self._events = {
            names[target]: event["id"]
            for event in config["dependencies"]
            for target, kind in event["targets"]
            if kind == "click"
        }

    def upload(self, path: Path) -> dict[str, Any]:
        """An uploaded file as inputs name it."""
        with path.open("rb") as file:
            reply = self.http.post("/studio/gradio_api/upload", files={"files": (path.name, file)})
        return {
            "path": reply.raise_for_status().json()[0],
            "orig_name": path.name,
            "meta": {"_type": "gradio.FileData"},
        }

    def join(self, button: str, *values: Any) -> httpx.Response:
        """Press a button."""
        event = {"data": values, "fn_index": self._events[button], "session_hash": self.session}
        return self.http.post("/studio/gradio_api/queue/join", json=event)

    def events(self) -> Iterator[dict[str, Any]]:
        """What the server tells of the buttons pressed, until all are done."""
        address = f"/studio/gradio_api/queue/data?session_hash={self.session}"
        with self.http.stream("GET", address, timeout=120) as reply:
            for line in reply.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    if event["msg"] == "close_stream":
                        return
                    yield event

    def press(self, button: str, *values: Any) -> str:
        """Press a button, wait until it is done, and give all that the page was told, as text."""
        self.join(button, *values).raise_for_status()
        return "\n".join(json.dumps(event, ensure_ascii=False) for event in self.events())
