"""Changing what is served: deploy beside the old, look whether it renders, switch, let the old finish, remove it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ray import serve
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from ifmdm_core.bundle import Bundle
from ifmdm_core.bundle_fetch import fetch_bundle
from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.storage import Storage, open_storage
from ifmdm_core.uri import Uri
from serve.application import build, name_of
from serve.calls import Calls, ServeStages
from serve.config import ServeConfig
from serve.messages import ModelFacts
from serve.probe import probe
from serve.replica import BundleRef
from serve.routes import Lease, LeaseWatch, Route, read_route, write_route

PREFIX = name_of("")
DEPLOY_S = 900.0
"""Longest wait for a first replica of each stage."""
LOOK_S = 0.5
"""Between two looks at a deployment."""

Say = Callable[[str], None]


async def start(config: ServeConfig, uri: str, sha256: str | None = None, say: Say = lambda _: None) -> Route:
    """Serves again what was served last, or what the configuration names if that has changed since (or at first).

    Serve is started on the Ray cluster that this process is connected to.

    Args:
        uri, sha256: the configured model, its name resolved. Raises as `roll_out`.
    """
    await asyncio.to_thread(serve.start, proxy_location="Disabled")  # the gateway listens itself
    uri = absolute(uri)
    configured = f"{uri} {sha256 or ''}".strip()
    before = await asyncio.to_thread(read_route, open_storage(config.root))
    if before is not None and before.configured == configured:
        uri, sha256 = before.uri, before.sha256
    return await roll_out(config, uri, sha256, say, configured)


async def roll_out(
    config: ServeConfig,
    uri: str,
    sha256: str | None = None,
    say: Say = lambda _: None,
    configured: str | None = None,
) -> Route:
    """Serves the bundle at `uri` from now on; until that is sure, what was served goes on untouched.

    The old one is left deployed for renders that are under way with it: see `retire_old`.

    Args:
        uri: "demo", a folder that every node sees, or s3://bucket/prefix.
        sha256: what its bundle.json must hash to; None takes what is there.
        say: told what happens, for people.
        configured: what the service's configuration says; None keeps what is known of that.

    Raises:
        NotFound, Conflict, BadInput, Unsupported: the bundle is refused, by reading it (as `fetch_bundle`), because a
            replica does not start with it, or because it does not render.
        Unavailable: no room for its replicas, or storage or Serve do not answer.
    """
    uri = absolute(uri)
    storage = open_storage(config.root)
    say(f"reading the bundle {uri}")
    bundle = await asyncio.to_thread(fetch_bundle, uri, sha256)
    application = name_of(bundle.digest)
    ready = False
    try:
        async with Lease(storage, application, f"rollout-{uuid.uuid4().hex}"):
            await deploy(BundleRef(uri, bundle.digest), config, say)
            calls = await asyncio.to_thread(Calls, application)
            facts = await facts_of(calls, bundle)
            say(f"{application}: rendering a sample")
            await probe(ServeStages(calls, facts), config.root)
            if configured is None:
                before = await asyncio.to_thread(read_route, storage)
                configured = "" if before is None else before.configured
            route = Route(
                application=application, uri=uri, sha256=bundle.digest, facts=facts, configured=configured
            )
            await asyncio.to_thread(write_route, storage, route)
            ready = True
    finally:
        if not ready:
            await asyncio.to_thread(remove_unused, storage, application)
    say(f"{application} serves {facts.name}")
    return route


async def retire_old(config: ServeConfig, say: Say = lambda _: None) -> None:
    """Removes models that are no longer in force, each when nobody renders with it any more; returns when none is left.

    Anybody may call it at any time, also after whoever switched is gone.
    """
    storage = open_storage(config.root)
    watches: dict[str, LeaseWatch] = {}
    while True:
        old = await asyncio.to_thread(_not_in_force, storage)
        if not old:
            return
        for application in old:
            watch = watches.setdefault(application, LeaseWatch(storage, application))
            if not await asyncio.to_thread(watch.held):
                say(f"{application}: removed")
                await asyncio.to_thread(serve.delete, application)
        await asyncio.sleep(1.0)


def _not_in_force(storage: Storage) -> list[str]:
    deployed = [name for name in serve.status().applications if name.startswith(PREFIX)]
    route = read_route(storage)
    return [name for name in deployed if route is None or name != route.application]


def remove_unused(storage: Storage, application: str) -> None:
    """Removes an application that has been refused, unless it is in force or somebody still renders with it."""
    if application in _not_in_force(storage) and not LeaseWatch(storage, application).held():
        serve.delete(application)


async def deploy(bundle: BundleRef, config: ServeConfig, say: Say) -> None:
    """Returns when every stage has a replica that started.

    Raises BadInput for a bundle they do not start with, Unavailable where there is no room for them.
    """
    application = name_of(bundle.sha256)
    state = await asyncio.to_thread(_state, application)
    if state is None or state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
        target = serve.RunTarget(build(bundle, config), name=application, route_prefix=None)
        await asyncio.to_thread(
            serve.run_many,
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
    until, said = time.monotonic() + DEPLOY_S, ""
    while True:
        state = await asyncio.to_thread(_state, application)
        waits = _waits(state)
        if state is not None and state.status == ApplicationStatus.RUNNING:
            return
        if state is not None and state.status == ApplicationStatus.DEPLOY_FAILED:
            raise BadInput(
                f"the bundle at {bundle.uri} is refused: {_reason(state)}", fix="what was served goes on"
            )
        if waits != said:
            say(f"{application}: waiting for {waits}")
            said = waits
        if time.monotonic() > until:
            raise Unavailable(
                f"no replica of {waits} started in {DEPLOY_S:.0f} s",
                fix="make room on the cluster: see ray status",
            )
        await asyncio.sleep(LOOK_S)


def _state(application: str) -> ApplicationStatusOverview | None:
    return serve.status().applications.get(application)


def _waits(state: ApplicationStatusOverview | None) -> str:
    """Stages that are not ready yet."""
    if state is None:
        return "the stages"
    return ", ".join(name for name, stage in state.deployments.items() if stage.status != "HEALTHY")


def _reason(state: ApplicationStatusOverview) -> str:
    """The last line of what a stage died of."""
    for name, stage in state.deployments.items():
        lines = [line.strip() for line in stage.message.splitlines() if line.strip()]
        if stage.status != "HEALTHY" and lines:
            return f"its {name} stage does not start: {lines[-1]}"
    return state.message or "it does not start"


async def facts_of(calls: Calls, bundle: Bundle) -> ModelFacts:
    """What its stages say of themselves."""
    motion = await calls.call("motion", "config")
    speech = await calls.call("speech", "windows")
    size, chunk = await calls.call("decoder", "shape")
    return ModelFacts(bundle.record.name, bundle.digest, size, chunk, motion, speech)


def absolute(uri: str) -> str:
    """Replicas have working folders of their own."""
    parsed = Uri.parse(uri)
    return uri if parsed.scheme == "s3" or uri == "demo" else str(Path(parsed.path).expanduser().absolute())
