"""The service put together on one Ray cluster: the model, the gateway, its pages. The only composer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.storage import open_storage
from ifmdm_core.uri import Uri
from serve.config import ServeConfig

if TYPE_CHECKING:
    from jobs.running.options import WorkOptions
    from serve.app import Pages, Routers
    from serve.routes import Route

Say = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """A service that runs."""

    address: str
    """http://host:port"""
    model: str
    sha256: str


def resolved(config: ServeConfig, mlflow: str | None = None) -> ServeConfig:
    """The configuration with its model's name looked up and its paths absolute, as replicas need it.

    Raises BadInput, NotFound, Unavailable, Conflict as `pipelines.tracking.resolve.resolve`.
    """
    changed: dict[str, object] = {"root": _absolute(config.root)}
    if config.model.startswith("models:"):
        from pipelines.tracking.resolve import resolve

        if mlflow is None:
            raise BadInput(
                f"model {config.model} needs MLflow", fix="give --mlflow URI, or set MLFLOW_TRACKING_URI"
            )
        named = resolve(config.model, mlflow)
        if config.sha256 not in (None, named.sha256):
            raise BadInput(f"{config.model} has sha256 {named.sha256}, sha256 says {config.sha256}")
        changed |= {"model": named.uri, "sha256": named.sha256}
    elif config.model != "demo":
        changed["model"] = _absolute(config.model)
    gateway, signing = config.gateway, config.signing
    if gateway.tokens is not None:
        changed["gateway"] = gateway.model_copy(update={"tokens": gateway.tokens.expanduser().absolute()})
    if signing.certificate is not None and signing.key is not None:
        paths = {"certificate": signing.certificate.absolute(), "key": signing.key.absolute()}
        changed["signing"] = signing.model_copy(update=paths)
    return config.model_copy(update=changed)


def cpus_needed(config: ServeConfig) -> int:
    """CPUs that a cluster of its own is started with: all stages at their most, beside a model that is leaving."""
    stages = (config.speech, config.motion, config.decoder)
    model = sum(stage.cpus * stage.scaling.most for stage in stages)
    return max(os.cpu_count() or 1, math.ceil(2 * model + config.gateway.cpus * config.gateway.replicas))


@contextlib.contextmanager
def stages(
    config: ServeConfig, ray_address: str | None = None, say: Say = lambda _: None, join: bool = False
) -> Iterator[Route]:
    """A model's stages for the duration of the block; what was started for it ends with it.

    Args:
        join: where the cluster serves already, those stages are taken and left as they are.
        config: as `resolved` gives it.
        ray_address: "auto" or host:port of a running cluster; None starts one on this machine.
        say: told what happens, for people.

    Raises what `rollout.start` raises; Unavailable where no cluster answers.
    """
    say("starting Ray" if ray_address is None else f"joining the Ray cluster {ray_address}")
    from pipelines.run.cluster import connect

    with connect(ray_address, cpus_needed(config) if ray_address is None else None):
        from ray import serve
        from ray.serve.config import HTTPOptions

        from serve.logs import SERVE_LOGGING
        from serve.rollout import start
        from serve.routes import read_route

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # what it says here, `say` says for people
        # The gateway's replicas listen themselves (see serve/http_server.py): Serve's own proxies stay off.
        serve.start(http_options=HTTPOptions(location="NoServer"), logging_config=SERVE_LOGGING)
        route = read_route(open_storage(config.root))
        if join and route is not None and route.application in serve.status().applications:
            yield route
            return
        try:
            yield asyncio.run(start(config, config.model, config.sha256, say))
        finally:
            say("stopping")
            serve.shutdown()


@contextlib.contextmanager
def running(
    config: ServeConfig,
    ray_address: str | None = None,
    say: Say = lambda _: None,
    jobs: WorkOptions | None = None,
    workers: int = 0,
) -> Iterator[Service]:
    """The service for the duration of the block; everything that was started for it ends with it.

    Args:
        config, ray_address, say: see `stages`.
        jobs: the job store that /v1/jobs and the jobs page show; None has neither.
        workers: that work on it.

    Raises as `stages`; Unavailable where the address is taken.
    """
    gateway = config.gateway
    if ray_address is None:
        _require_free(gateway.host, gateway.port)
    with stages(config, ray_address, say) as route, contextlib.ExitStack() as held:
        from ray import serve

        from serve.gateway import NAME, build, gateway_port
        from serve.logs import SERVE_LOGGING
        from serve.rollout import retire_old

        say("starting the gateway")
        routers: Routers = ()
        pages = pages_of(config)
        if jobs is not None:
            routers, more = jobs_on_gateway(jobs)
            pages = (*pages, *more)
        serve.run(
            build(config, routers=routers, pages=pages),
            name=NAME,
            route_prefix=None,
            logging_config=SERVE_LOGGING,
        )
        held.callback(serve.delete, NAME)
        host = "127.0.0.1" if gateway.host in ("0.0.0.0", "::") else gateway.host
        asyncio.run(retire_old(config, say))
        if jobs is not None and workers:
            from jobs.running.actors import Workers

            say(f"starting {workers} job worker{'s' if workers > 1 else ''}")
            held.callback(Workers(jobs, workers).close)
        yield Service(f"http://{host}:{gateway_port()}", route.facts.name, route.sha256)


def jobs_on_gateway(jobs: WorkOptions) -> tuple[Routers, Pages]:
    """What the gateway has more where it knows a job store: /v1/jobs, the page /jobs, and figures of it."""
    from functools import partial

    from jobs.api import router_for
    from jobs.page import add_job_figures, add_jobs_page

    pages = tuple(partial(add, root=jobs.root, s3=jobs.s3) for add in (add_jobs_page, add_job_figures))
    return (partial(router_for, jobs.root, jobs.s3),), pages


def pages_of(config: ServeConfig) -> Pages:
    """Studio, where it is wanted. Raises BadInput where it is not installed."""
    if not config.gateway.studio:
        return ()
    if importlib.util.find_spec("gradio") is None:  # said here rather than by a replica that does not start
        raise BadInput(
            "gateway.studio needs gradio, which is not installed",
            fix="pip install 'ifmdm[studio]', or --set gateway.studio=false",
        )
    from serve.studio.mount import add_studio

    return (add_studio,)


def _absolute(place: str) -> str:
    uri = Uri.parse(place)
    return place if uri.scheme == "s3" else str(Path(uri.path).expanduser().absolute())


def _require_free(host: str, port: int) -> None:
    """Gateways share a port on purpose, so binding it would not show that another service has it."""
    if port == 0:
        return
    target = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    with contextlib.suppress(OSError), socket.create_connection((target, port), timeout=2):
        raise Unavailable(
            f"something already listens on {target}:{port}", fix="stop it, or --set gateway.port=8001"
        )
