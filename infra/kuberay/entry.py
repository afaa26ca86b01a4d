"""What the RayService's serveConfigV2 names: our service as three Serve applications, each with the same arguments.

    gateway   listens on its own port: HTTP, Studio, /v1/jobs
    keeper    rolls the configured model out, as `ifmdm serve` does, and again should it be gone
    workers   job workers, one a replica; Serve starts them, replaces them, and lets them give their jobs back

The models' own applications are made by the keeper and the gateway, one for each bundle; a later serveConfigV2 leaves
them alone, as Serve removes only what an earlier one had. Nothing needs an HTTP proxy of Serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import validate
from ifmdm_core.errors import BadInput, IfmdmError, Unavailable
from serve.config import ServeConfig

if TYPE_CHECKING:
    from ray.serve import Application

    from jobs.running.options import WorkOptions

LOOK_S = 10.0
"""Between two health checks of keeper and workers."""
LEAVE_S = 90.0
"""For a leaving worker's jobs to get to their next chunk."""

_log = logging.getLogger(__name__)


class EntryArgs(BaseModel):
    """The `args` of each application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    serve: ServeConfig = Field(description="the service, as for ifmdm serve")
    mlflow: str | None = Field(None, description="where models:/ names are looked up")
    jobs: str | None = Field(None, description="the job store: a folder that all nodes see, or s3://…")
    slots: int = Field(2, ge=1, le=256, description="jobs that a worker has under way at a time")
    webhook_secret: Path | None = Field(None, description="file with the secret of webhooks, on every node")

    @cached_property
    def resolved(self) -> ServeConfig:
        """With one deny-list and one audit log for both ways in. Raises as `infra.app.resolved`."""
        from infra.app import resolved

        found = resolved(self.serve, self.mlflow)
        if self.jobs is None or found.oversight is not None:
            return found
        return found.model_copy(update={"oversight": self.jobs})

    def work(self) -> WorkOptions:
        """Raises BadInput without `jobs`, and as `work_options`."""
        from ifmdm_core.commands.s3_options import s3_config
        from infra.commands.job_options import work_options

        if self.jobs is None:
            raise BadInput("args.jobs is not set", fix="name the job store, or take this application out")
        return work_options(
            self.jobs, self.resolved, s3_config(), slots=self.slots, webhook_secret=self.webhook_secret
        )


def gateway(args: dict[str, Any]) -> Application:
    """The HTTP surface; /v1/jobs and /jobs where there is a job store."""
    from infra.app import jobs_on_gateway, pages_of
    from serve.gateway import build

    given = validate(EntryArgs, args, "args")
    routers, pages = jobs_on_gateway(given.work()) if given.jobs is not None else ((), ())
    return build(given.resolved, routers=routers, pages=(*pages_of(given.resolved), *pages))


def keeper(args: dict[str, Any]) -> Application:
    """The model in force."""
    return _deployment(Keeper, "keeper", grace_s=5.0).bind(validate(EntryArgs, args, "args").resolved)


def workers(args: dict[str, Any]) -> Application:
    """Job workers; `num_replicas` in serveConfigV2 says how many."""
    return _deployment(JobWorkers, "workers", grace_s=LEAVE_S + 10).bind(
        validate(EntryArgs, args, "args").work()
    )


def _deployment(kind: type, name: str, grace_s: float) -> Any:
    from ray import serve

    return serve.deployment(kind, name=name).options(
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.5},
        graceful_shutdown_timeout_s=grace_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=LOOK_S,
        health_check_timeout_s=30.0,
    )


class Keeper:
    """Sees to it that the model which the configuration or the last switch named is deployed."""

    async def __init__(self, config: ServeConfig) -> None:  # type: ignore[misc]  # Serve awaits it
        from serve.logs import log_through_serve
        from serve.rollout import retire_old, start

        log_through_serve()
        self._config = config
        await start(config, config.model, config.sha256, _log.info)
        self._retiring = asyncio.create_task(retire_old(config, _log.info))

    async def check_health(self) -> None:
        """Called by Serve, which starts another keeper, and so the model, when this raises Unavailable."""
        gone = await asyncio.to_thread(self._missing)
        if gone is not None:
            raise Unavailable(f"{gone} is in force and not deployed", fix="it is started again")

    def _missing(self) -> str | None:
        from ray import serve

        from ifmdm_core.storage import open_storage
        from serve.routes import read_route

        with contextlib.suppress(IfmdmError):  # the store is away; what runs goes on
            route = read_route(open_storage(self._config.root))
            if route is not None and route.application not in serve.status().applications:
                return route.application
        return None


class JobWorkers:
    """One worker in a replica."""

    def __init__(self, options: WorkOptions) -> None:
        from jobs.rendering.served_bundles import ServedBundles
        from jobs.running.hosted import HostedWorker
        from serve.logs import log_through_serve

        log_through_serve()
        self._hosted = HostedWorker(options, ServedBundles(options.serve))
        self._thread = self._hosted.begin()

    def check_health(self) -> None:
        """Called by Serve, which starts another worker when this raises Unavailable."""
        if not self._thread.is_alive():
            raise Unavailable(f"the worker has ended: {self._hosted.fault}")

    def __del__(self) -> None:
        """Called by Serve when the replica leaves: its jobs go back into the queue at their next chunk."""
        if hasattr(self, "_thread"):
            self._hosted.leave()
            self._thread.join(LEAVE_S)
