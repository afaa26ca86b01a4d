"""The stages of the bundle that a job is pinned to, as replicas on the Ray cluster this process is connected to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.beside import Beside
from serve.calls import Lost
from serve.config import ServeConfig
from serve.messages import Stages
from serve.routes import Routes


class ServedBundles:
    """What the service at one root serves, and beside it what waiting jobs were pinned to; see `bundles.Bundles`.

    A render that has begun keeps its stages, whatever is rolled out meanwhile. After a switch, jobs of the old model
    are rendered with the old model, which is deployed for as long as there are some.

    Args:
        config: of the service.
        on_lost: told of every call to a stage that is made again.
    """

    def __init__(self, config: ServeConfig, on_lost: Lost | None = None) -> None:
        self._routes = Routes(config.root, on_lost)
        self._beside = Beside(config, on_lost=on_lost)

    async def open(self) -> None:
        """See `Bundles.open`: from now on the route is followed; there may be none yet."""
        await self._routes.__aenter__()

    def serves(self, sha256: str) -> bool:
        """See `Bundles.serves`: every bundle, once there is a service."""
        return self._routes.route is not None

    @asynccontextmanager
    async def lease(self, uri: str, sha256: str) -> AsyncIterator[Stages]:
        """See `Bundles.lease`. Raises as `beside.beside` for a bundle that is not in force."""
        route = self._routes.route
        if route is None or route.sha256 == sha256:
            async with self._routes.lease() as stages:
                if stages.facts.digest == sha256:  # else it was switched right now
                    yield stages
                    return
        async with self._beside.lease(uri, sha256) as stages:
            yield stages

    async def close(self) -> None:
        """See `Bundles.close`."""
        await self._beside.close()
        await self._routes.__aexit__()
