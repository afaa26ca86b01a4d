"""Bundles that are not in force, served beside the one that is: for renders pinned to them before a switch."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ifmdm_core.bundle_fetch import fetch_bundle
from ifmdm_core.storage import open_storage
from serve.application import name_of
from serve.calls import Calls, Lost, ServeStages
from serve.config import ServeConfig
from serve.messages import Stages
from serve.replica import BundleRef
from serve.rollout import Say, absolute, deploy, facts_of, remove_unused
from serve.routes import Lease

IDLE_S = 300.0
"""Seconds without a render after which such a bundle is let go."""
LOOK_S = 30.0
"""Between two looks for those."""


@contextlib.asynccontextmanager
async def beside(
    config: ServeConfig, uri: str, sha256: str, say: Say = lambda _: None, on_lost: Lost | None = None
) -> AsyncIterator[Stages]:
    """The stages of a bundle, deployed if they are not, there until the block ends; then removed if nobody needs them.

    Raises as `rollout.roll_out`.
    """
    uri, storage = absolute(uri), open_storage(config.root)
    bundle = await asyncio.to_thread(fetch_bundle, uri, sha256)
    application = name_of(bundle.digest)
    try:
        async with Lease(storage, application, f"beside-{uuid.uuid4().hex}"):
            await deploy(BundleRef(uri, bundle.digest), config, say)
            calls = await asyncio.to_thread(Calls, application, on_lost)
            yield ServeStages(calls, await facts_of(calls, bundle))
    finally:
        await asyncio.to_thread(remove_unused, storage, application)


@dataclass
class _Kept:
    stages: Stages
    held: AsyncExitStack
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)


class Beside:
    """Such bundles for one process, each kept IDLE_S after its last render. For one event loop; close it in the end."""

    def __init__(self, config: ServeConfig, say: Say = lambda _: None, on_lost: Lost | None = None) -> None:
        self._config, self._say, self._on_lost = config, say, on_lost
        self._kept: dict[str, _Kept] = {}
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def lease(self, uri: str, sha256: str) -> AsyncIterator[Stages]:
        """The stages of that bundle. Raises as `beside`."""
        async with self._turn:
            self._looking = self._looking or asyncio.create_task(self._let_go_idle())
            kept = self._kept.get(sha256)
            if kept is None:
                held = AsyncExitStack()
                context = beside(self._config, uri, sha256, self._say, self._on_lost)
                kept = self._kept[sha256] = _Kept(await held.enter_async_context(context), held)
            kept.users += 1
        try:
            yield kept.stages
        finally:
            kept.users -= 1
            kept.used_at = time.monotonic()

    async def close(self) -> None:
        """Lets go of all."""
        if self._looking is not None:
            self._looking.cancel()
        for kept in self._kept.values():
            await kept.held.aclose()
        self._kept.clear()

    async def _let_go_idle(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            async with self._turn:
                idle = [
                    sha256
                    for sha256, kept in self._kept.items()
                    if not kept.users and time.monotonic() - kept.used_at > IDLE_S
                ]
                for sha256 in idle:
                    await self._kept.pop(sha256).held.aclose()
