"""The stages of the bundle that a job is pinned to, as replicas on the Ray cluster this process is connected to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ifmdm_core.errors import Unavailable
from serve.calls import Lost
from serve.config import ServeConfig
from serve.messages import Stages
from serve.routes import Routes


class ServedBundles:
    """What the service at one root serves; see `bundles.Bundles`.

    A render that has begun keeps its stages, whatever is rolled out meanwhile.

    Args:
        config: of the service; only its root counts.
        on_lost: told of every call to a stage that is made again.
    """

    def __init__(self, config: ServeConfig, on_lost: Lost | None = None) -> None:
        self._routes = Routes(config.root, on_lost)

    async def open(self) -> None:
        """See `Bundles.open`: from now on the route is followed; there may be none yet."""
        await self._routes.__aenter__()

    def serves(self, sha256: str) -> bool:
        """See `Bundles.serves`: the bundle in force, none while there is no service."""
        route = self._routes.route
        return route is not None and route.sha256 == sha256

    @asynccontextmanager
    async def lease(self, uri: str, sha256: str) -> AsyncIterator[Stages]:
        """See `Bundles.lease`."""
        async with self._routes.lease() as stages:
            if stages.facts.digest != sha256:
                raise Unavailable(
                    f"the bundle {uri} with sha256 {sha256[:12]}… is not deployed; served is {stages.facts.name} "
                    f"with {stages.facts.digest[:12]}…",
                    fix="roll it out again until its jobs are done, or submit them again for what is served",
                    retry_after=60.0,
                )
            yield stages

    async def close(self) -> None:
        """See `Bundles.close`."""
        await self._routes.__aexit__()
