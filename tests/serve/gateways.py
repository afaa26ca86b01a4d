"""Gateways over networks in this process, on real sockets: everything of the service but Ray."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ifmdm_core.config import load_config
from serve.app import Pages, application
from serve.config import ServeConfig
from serve.http_server import HttpServer
from serve.intake import Intake
from serve.local_stages import LocalStages
from serve.messages import Stages
from serve.protection.callers import token_hash
from serve.renders import OneModel, RenderService
from serve.signing import Signer

Value = TypeVar("Value")


class RunningGateway:
    """One gateway and what it is made of."""

    def __init__(self, config: ServeConfig, service: RenderService, server: HttpServer, port: int) -> None:
        self.config, self.service, self.server, self.port = config, service, server, port
        self.url = f"http://127.0.0.1:{port}"


class Gateways:
    """A thread with an event loop that gateways run in; they share their networks.

    Args:
        folder: for their roots.
        bundle: what they serve.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        self._folder, self._bundle = folder, bundle
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stages: LocalStages | None = None
        self._running: list[RunningGateway] = []
        self.root = folder / "root"
        self._intake = _Shared()

    def run(self, work: Coroutine[Any, Any, Value], wait_s: float = 120) -> Value:
        """What `work` gives, run in their loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(wait_s)

    def stages(self) -> LocalStages:
        """The networks."""
        if self._stages is None:
            self._stages = LocalStages(self.serve_config())
        return self._stages

    def serve_config(self, *settings: str) -> ServeConfig:
        """Their configuration, with changes as for --set."""
        given = [f"root={self.root}", f"model={self._bundle}", "gateway.port=0", *settings]
        return load_config(ServeConfig, None, given)

    def start(self, *settings: str, stages: Stages | None = None, pages: Pages = ()) -> RunningGateway:
        """A gateway on a free port, with settings of its own."""
        config = self.serve_config(*settings)
        chosen = stages or self.stages()

        async def begin() -> RunningGateway:
            signer = await asyncio.to_thread(Signer.open, config.signing, config.root)
            service = RenderService(config, OneModel(chosen), signer=signer, intake=self._intake)
            server = HttpServer(application(config.gateway, service, pages=pages), "127.0.0.1", 0)
            return RunningGateway(config, service, server, await server.start())

        gateway = self.run(begin())
        self._running.append(gateway)
        return gateway

    def tokens(self, **entries: dict[str, Any]) -> tuple[Path, dict[str, str]]:
        """A token file with these entries (by name), and their tokens by name."""
        given = {name: secrets.token_hex(16) for name in entries}
        listed = [
            {"name": name, "tenant": name, "sha256": token_hash(given[name]), **entry}
            for name, entry in entries.items()
        ]
        path = self._folder / f"tokens-{secrets.token_hex(4)}.yaml"
        path.write_text(yaml.safe_dump({"tokens": listed}))
        return path, given

    def close(self) -> None:
        """Ends them all."""
        for gateway in self._running:
            self.run(gateway.server.stop(1))
        self._intake.end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class _Shared(Intake):
    """Children that outlive the gateway: each costs seconds to start."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()
