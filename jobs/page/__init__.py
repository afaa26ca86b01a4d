"""The page of render jobs at /jobs, beside the Studio: a live table, and one job with its life, video and log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ifmdm_core.storage import S3Config, open_storage

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serve.config import GatewayConfig
    from serve.renders import RenderService


def add_jobs_page(
    app: FastAPI, service: RenderService, config: GatewayConfig, *, root: str, s3: S3Config | None = None
) -> None:
    """Adds /jobs to `app`; `functools.partial(add_jobs_page, root=…, s3=…)` is what `serve.gateway.build` takes.

    Callers see and steer the jobs of their token's tenant, admins everybody's. Works with any number of gateways.

    Args:
        root: of the job store.
    """
    from jobs.page.routes import routes
    from jobs.page.sights import Sights

    app.include_router(routes(Sights(open_storage(root, s3)), studio=config.studio))


def add_job_figures(
    app: FastAPI, service: RenderService, config: GatewayConfig, *, root: str, s3: S3Config | None = None
) -> None:
    """Adds what Prometheus is told of the job store to the gateway's own figures; see `add_jobs_page`."""
    from jobs.clock import SystemClock
    from jobs.figures import JobFigures
    from jobs.store import JobStore

    service.metrics.include(JobFigures(JobStore(open_storage(root, s3), "figures", SystemClock())))
