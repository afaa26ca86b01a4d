"""The stages of the bundle that a job is pinned to, as replicas on the Ray cluster this process is connected to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ifmdm_core.errors import Unavailable
from serve.calls import Lost
from serve.messages import Stages
from serve.routes import Routes


class ServedBundles:
    """What the service at one root serves; see `bundles.Bundles`.

    A render that has begun keeps its stages, whatever is rolled out meanwhile.

    Args:
        root: the service's root.
        on_lost: told of every call to a stage that is made again.
    """

    def __init__(self, root: str, on_lost: Lost | None = None) -> None:
        self._root, self._on_lost = root, on_lost
        self._routes: Routes | None = None
        self._turn = asyncio.Lock()

    def serves(self, sha256: str) -> bool:
        """Whether that bundle is in force, as far as is known; yes while nothing is known. For any thread."""
        route = None if self._routes is None else self._routes.route
        return route is None or route.sha256 == sha256

    @asynccontextmanager
    async def lease(self, uri: str, sha256: str) -> AsyncIterator[Stages]:
        """See `Bundles.lease`."""
        routes = await self._followed()
        async with routes.lease() as stages:
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
        if self._routes is not None:
            routes, self._routes = self._routes, None
            await routes.__aexit__()

    async def _followed(self) -> Routes:
        async with self._turn:
            if self._routes is None:
                self._routes = await Routes(self._root, self._on_lost).__aenter__()
            return self._routes
