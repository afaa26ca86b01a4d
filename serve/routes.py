"""Which application serves, and who still renders with which: two kinds of small files under the service's root.

    routes.json                          the application that new renders go to, and what it was made from
    leases/<application>/<holder>        this process may still start or be in a render with it; written every RENEW_S

Nothing is mixed up without any lock: a holder writes its lease and then reads the route before it uses an application;
whoever wants to remove one writes the route first and then reads the leases. One of the two sees the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ifmdm_core.errors import Conflict, IfmdmError, NotFound, Unavailable, nearest
from ifmdm_core.storage import Storage, open_storage
from serve.calls import Calls, Lost, ServeStages
from serve.messages import ModelFacts, Stages

TABLE = "routes.json"
REFRESH_S = 1.0
"""Between two looks at the route."""
RENEW_S = 10.0
"""Between two writings of a lease."""
LEASE_S = 60.0
"""Seconds without a writing after which a holder counts as gone."""

log = logging.getLogger(__name__)


class Route(BaseModel):
    """What is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, description="of this layout")
    application: str = Field(description="on Serve")
    uri: str = Field(description="of the bundle")
    sha256: str = Field(description="of its bundle.json")
    facts: ModelFacts = Field(description="what drives its stages")
    configured: str = Field("", description="the model that the configuration named when the service started")
    since: datetime = Field(default_factory=lambda: datetime.now(UTC))


def read_route(storage: Storage) -> Route | None:
    """The route that is in force; None before the first.

    Raises Conflict when the file is none of ours, Unavailable.
    """
    try:
        return Route.model_validate_json(storage.get(TABLE))
    except NotFound:
        return None
    except ValidationError as error:
        raise Conflict(
            f"{TABLE}: {str(error).splitlines()[0]}", fix="update ifmdm, or remove it and roll a model out"
        ) from None


def write_route(storage: Storage, route: Route) -> None:
    """From now on `route` is in force; whoever renders with another application finishes there."""
    storage.put(TABLE, route.model_dump_json(indent=2).encode())


class Lease:
    """This process' lease on one application, kept alive until the block ends."""

    def __init__(self, storage: Storage, application: str, holder: str) -> None:
        self._storage, self._key = storage, f"leases/{application}/{holder}"
        self._task: asyncio.Task[None] | None = None
        self.renders = 0
        """Under way."""

    async def __aenter__(self) -> Lease:
        await asyncio.to_thread(self._write)
        self._task = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *failure: object) -> None:
        await _ended(self._task)
        with contextlib.suppress(IfmdmError):  # then it runs out
            await asyncio.to_thread(self._storage.delete, self._key)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await asyncio.to_thread(self._write)
            except IfmdmError as error:
                log.warning("lease %s is not renewed: %s", self._key, error)

    def _write(self) -> None:
        # The time makes every writing another one, also where the store's clock has whole seconds.
        self._storage.put(self._key, json.dumps({"renders": self.renders, "at": time.time()}).encode())


class LeaseWatch:
    """Whether anybody still holds an application; compares no clocks."""

    def __init__(self, storage: Storage, application: str) -> None:
        self._storage, self._prefix = storage, f"leases/{application}/"
        self._seen: dict[str, tuple[tuple[datetime, str], float]] = {}

    def held(self) -> bool:
        """Whether a lease is alive; those that have not changed for LEASE_S are removed."""
        now, alive = time.monotonic(), False
        for item in list(self._storage.list(self._prefix)):
            state = (item.modified, item.etag)
            if item.key not in self._seen or self._seen[item.key][0] != state:
                self._seen[item.key] = (state, now)
            if now - self._seen[item.key][1] < LEASE_S:
                alive = True
            else:
                self._storage.delete(item.key)
        return alive


class Routes:
    """A process' way to the stages of the bundle in force. It keeps its last good state when the store is away.

    Args:
        root: the service's root.
        on_lost: told of every call to a stage that is made again.
    """

    def __init__(self, root: str, on_lost: Lost | None = None) -> None:
        self._storage = open_storage(root)
        self._holder = uuid.uuid4().hex
        self._on_lost = on_lost
        self._route: Route | None = None
        self._stages: dict[str, ServeStages] = {}
        self._leases: dict[str, Lease] = {}
        self._renders: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Routes:
        """Starts to follow the route; there may be none yet, or its application may not be up yet."""
        with contextlib.suppress(Unavailable):
            await self._look()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *failure: object) -> None:
        await _ended(self._task)
        for application in list(self._leases):
            await self._let_go(application)

    @property
    def route(self) -> Route | None:
        """In force, as far as this process knows; None while nothing can be rendered."""
        return self._route

    def listed(self) -> list[ModelFacts]:
        """The bundles that can be asked for."""
        return [] if self._route is None else [self._route.facts]

    @contextlib.asynccontextmanager
    async def lease(self, name: str | None = None) -> AsyncIterator[Stages]:
        """The stages of the bundle in force, which stay until the block ends whatever is switched meanwhile.

        Raises NotFound for another name, Unavailable while there is none.
        """
        if self._route is None:
            await self._look()
        route = self._route
        if route is None:
            raise Unavailable("no model is ready", fix="try again in a moment", retry_after=5.0)
        if name is not None and name != route.facts.name:
            raise NotFound(f"no model {name!r} is served", fix=nearest(name, [route.facts.name]))
        # No await from the choice to the count: the application is not let go in between.
        application = route.application
        self._count(application, 1)
        try:
            yield self._stages[application]
        finally:
            self._count(application, -1)

    def _count(self, application: str, change: int) -> None:
        self._renders[application] += change
        if application in self._leases:
            self._leases[application].renders = self._renders[application]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._look()
            except IfmdmError as error:
                log.warning("the route is not read: %s", error)
            except Exception:
                log.exception("the route is not followed")

    async def _look(self) -> None:
        """Takes over a new route, and lets go of applications that nothing renders with any more."""
        async with self._turn:
            try:
                found = await asyncio.to_thread(read_route, self._storage)
                if found is not None and (
                    self._route is None or found.application != self._route.application
                ):
                    await self._take(found)
            finally:
                current = None if self._route is None else self._route.application
                for application in [a for a in self._leases if a != current and not self._renders[a]]:
                    await self._let_go(application)

    async def _take(self, found: Route) -> None:
        lease = self._leases.get(found.application)
        if lease is None:
            lease = Lease(self._storage, found.application, self._holder)
            await lease.__aenter__()
            self._leases[found.application] = lease
        confirmed = await asyncio.to_thread(read_route, self._storage)
        if confirmed is None or confirmed.application != found.application:
            return  # switched again meanwhile; the next look takes that
        calls = await asyncio.to_thread(Calls, found.application, self._on_lost)
        self._stages[found.application] = ServeStages(calls, found.facts)
        self._route = found

    async def _let_go(self, application: str) -> None:
        self._stages.pop(application, None)
        self._renders.pop(application, None)
        await self._leases.pop(application).__aexit__()


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Returns when the task has been cancelled and is over."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
