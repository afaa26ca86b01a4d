"""The stages of the bundle that a job is pinned to: networks in this process, at most a few bundles at a time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from serve.config import ServeConfig
from serve.local_stages import LocalStages
from serve.messages import Stages

KEPT = 2
"""Bundles whose networks stay in memory; more only while more are in use at once."""


class Bundles(Protocol):
    """Where stages come from. For one event loop, but for `serves`."""

    async def open(self) -> None:
        """To be called first. Raises Conflict where the service's own files are none of this version's."""
        ...

    def serves(self, sha256: str) -> bool:
        """Whether a lease of that bundle can be had now, as far as is known; for any thread."""
        ...

    def lease(self, uri: str, sha256: str) -> AbstractAsyncContextManager[Stages]:
        """The stages of that bundle, there until the context ends.

        Raises Unavailable where they cannot be had now, what reading the bundle raises.
        """
        ...

    async def close(self) -> None:
        """Lets go of everything."""
        ...


@dataclass
class _Held:
    stages: Stages
    users: int = 0


class LocalBundles:
    """Stages in this process, for workers without a cluster.

    Args:
        config: of the stages and their root; its model does not count.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._held: dict[str, _Held] = {}  # by digest, the one used last at the end
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """See `Bundles.open`."""

    def serves(self, sha256: str) -> bool:
        """See `Bundles.serves`: any, one after the other."""
        return True

    @asynccontextmanager
    async def lease(self, uri: str, sha256: str) -> AsyncIterator[Stages]:
        """See `Bundles.lease`. Raises as `fetch_bundle`."""
        async with self._turn:
            held = self._held.pop(sha256, None)
            if held is None:
                self._make_room()
                config = self._config.model_copy(update={"model": uri, "sha256": sha256})
                held = _Held(await asyncio.to_thread(LocalStages, config))
            self._held[sha256] = held
            held.users += 1
        try:
            yield held.stages
        finally:
            held.users -= 1

    async def close(self) -> None:
        """See `Bundles.close`."""
        self._held.clear()

    def _make_room(self) -> None:
        idle = [digest for digest, held in self._held.items() if not held.users]
        for digest in idle[: max(0, len(self._held) - KEPT + 1)]:
            del self._held[digest]
            gc.collect()  # networks and threads are in cycles
