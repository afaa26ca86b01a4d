"""The gateway as a Serve application: replicas that each run the HTTP server, supervised and placed by Serve."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray import serve
from ray.serve import Application

from ifmdm_core.errors import Unavailable
from serve.app import Pages, Routers, application
from serve.config import ServeConfig
from serve.http_server import HttpServer
from serve.logs import log_through_serve
from serve.messages import ModelFacts

NAME = "gateway"
"""Of the Serve application and of its deployment."""

_log = logging.getLogger(__name__)


class Gateway:
    """One replica: the application of `serve.app` on a port of this node."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ServeConfig, routers: Routers = (), pages: Pages = ()
    ) -> None:
        from serve.metrics import GatewayMetrics
        from serve.renders import RenderService
        from serve.routes import Routes
        from serve.signing import Signer

        log_through_serve()
        self._config = config
        metrics = GatewayMetrics(serve.get_replica_context().replica_tag)
        signer = await asyncio.to_thread(Signer.open, config.signing, config.root)
        self._routes = Routes(config.root, on_lost=lambda stage, error: metrics.retry(stage))
        await self._routes.__aenter__()
        self._service = RenderService(config, self._routes, signer=signer, metrics=metrics)
        app = application(config.gateway, self._service, self._roll_out, routers, pages)
        self._server = HttpServer(app, config.gateway.host, config.gateway.port)
        self._port = await self._server.start()
        self._retiring: asyncio.Task[None] | None = None
        _log.info("listening", extra={"host": config.gateway.host, "port": self._port})

    async def port(self) -> int:
        """Where it listens."""
        return self._port

    async def check_health(self) -> None:
        """Called by Serve; raises once the HTTP server has ended, and Serve starts another replica."""
        if not self._server.running:
            raise Unavailable("the HTTP server has ended")

    async def __del__(self) -> None:
        """Called by Serve when the replica leaves: nobody is let in, renders under way have their grace."""
        self._service.admission.close()
        await self._server.stop(self._config.gateway.grace_s)
        await self._service.close()
        await self._routes.__aexit__(None, None, None)

    async def _roll_out(self, uri: str, sha256: str | None) -> ModelFacts:
        from serve.rollout import retire_old, roll_out

        route = await roll_out(self._config, uri, sha256, _log.info)
        if self._retiring is None or self._retiring.done():
            self._retiring = asyncio.create_task(retire_old(self._config, _log.info))
        return route.facts


def build(config: ServeConfig, routers: Routers = (), pages: Pages = ()) -> Application:
    """The gateway's application; run it as `NAME` without a route prefix, beside the models'.

    Args:
        routers, pages: what others add; see `serve.app`.
    """
    gateway = config.gateway
    deployment: Any = serve.deployment(Gateway, name=NAME).options(
        num_replicas=gateway.replicas,
        ray_actor_options={"num_cpus": gateway.cpus},
        max_ongoing_requests=100,
        graceful_shutdown_timeout_s=gateway.grace_s + 5,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=2.0,
        health_check_timeout_s=30.0,
        max_constructor_retry_count=2,
    )
    bound: Application = deployment.bind(config, tuple(routers), tuple(pages))
    return bound


def gateway_port() -> int:
    """Where the gateway that runs on this cluster listens (one of its replicas). Blocking.

    Raises Unavailable while it does not.
    """
    try:
        port: int = serve.get_deployment_handle(NAME, NAME).port.remote().result(timeout_s=60)
    except Exception as error:
        raise Unavailable(f"the gateway does not run: {error}", fix="start it with ifmdm serve") from None
    return port
