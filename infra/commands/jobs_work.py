"""`ifmdm jobs work ROOT`: workers that render what is queued, on Ray or in this process, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ifmdm_core.commands.s3_options import EndpointOption, ProfileOption, RoleOption, s3_config
from ifmdm_core.config import load_config
from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.storage import Storage, open_storage
from infra.commands.job_options import PrivateWebhooksOption, WebhookSecretOption, work_options
from serve.config import ServeConfig

if TYPE_CHECKING:
    from jobs.running.hosted import WorkerStatus
    from jobs.running.options import WorkOptions

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

WORKER = "worker "
"""Before the name of a worker in this process, where it is told."""
LOOK_S = 1.0
"""Between two looks at how far the workers are."""


@app.command()
def work(
    root: Annotated[
        str,
        typer.Argument(
            metavar="ROOT", help="the job store: a folder or s3://…", envvar="IFMDM_JOBS", show_default=False
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--serve",
            metavar="CONFIG",
            help="stages: as for ifmdm serve; default: the demo's on this machine",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="change one of its settings; repeatable"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=10_000, help="worker processes on the cluster")] = 1,
    slots: Annotated[int, typer.Option(min=1, max=256, help="jobs that each has under way at a time")] = 2,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="auto|HOST:PORT", help="a running cluster, whose service is used if it has one"
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="no Ray: one worker, the networks in this process")
    ] = False,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="end when nothing waits or runs any more")
    ] = False,
    takeover: Annotated[
        float,
        typer.Option(
            min=5,
            max=3600,
            metavar="SECONDS",
            help="without a sign of life before others take these workers' jobs; they give one six times as often",
        ),
    ] = 60.0,
    stall: Annotated[
        float, typer.Option(metavar="SECONDS", help="without progress before a job is taken from its worker")
    ] = 600.0,
    fsck: Annotated[
        float, typer.Option(metavar="SECONDS", help="between two looks at every job of the store; 0 never")
    ] = 3600.0,
    webhook_secret: WebhookSecretOption = None,
    allow_private_webhooks: PrivateWebhooksOption = False,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="URI",
            help="where models:/ names are looked up; default: $MLFLOW_TRACKING_URI",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything and print it, start nothing")
    ] = False,
) -> None:
    """Render what is queued in ROOT until Ctrl-C or SIGTERM; jobs under way then go back into the queue.

    Start as many of these as you like, anywhere: they share the work through the store alone.
    """
    from infra.app import resolved

    if local and (workers > 1 or ray is not None):
        raise BadInput(
            "--local is one worker without Ray",
            fix="start the command several times, or leave --local out",
        )
    given = list(settings or ())
    if config is None and not any(setting.startswith("root=") for setting in given):
        given.append("root=ifmdm-service")
    serve = resolved(load_config(ServeConfig, config, given), mlflow or os.environ.get("MLFLOW_TRACKING_URI"))
    options = work_options(
        root, serve, s3_config(endpoint, profile, role), slots=slots, takeover_s=takeover, stall_s=stall, fsck_s=fsck,
        webhook_secret=webhook_secret, private_webhooks=allow_private_webhooks,
    )  # fmt: skip
    storage = open_storage(options.root, options.s3)
    if dry_run:
        where = "in this process" if local else f"{workers} workers on {ray or 'a Ray of this machine'}"
        print(f"{options.root}: a job store; {where}, {slots} jobs at a time each; model {serve.model}")
        return
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    run = _here if local else _on_ray
    run(options, workers, ray, over, UntilDone(storage) if until_done else lambda: False)


class UntilDone:
    """Whether nothing waits or runs in a job store any more; looked at twice, as a job may move while it is looked."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._seen = 0

    def __call__(self) -> bool:
        try:
            self._seen = self._seen + 1 if idle(self._storage) else 0
        except Unavailable:
            self._seen = 0
        return self._seen > 1


def idle(storage: Storage) -> bool:
    """Whether nothing waits or runs in a job store. Raises Unavailable."""
    return not any(
        next(iter(storage.list(prefix, limit=1)), None)
        for prefix in ("inbox/", "queue/", "later/", "running/")
    )


def _here(
    options: WorkOptions, workers: int, ray: str | None, over: threading.Event, done: Callable[[], bool]
) -> None:
    from jobs.rendering.bundles import LocalBundles
    from jobs.running.hosted import HostedWorker

    hosted = HostedWorker(options, LocalBundles(options.serve))
    thread = hosted.begin()
    _say(f"{WORKER}{hosted.process.store.by}")
    with _told(lambda: [hosted.status()]) as tell:
        while thread.is_alive() and not over.wait(LOOK_S):
            tell()
            if done():
                break
        hosted.leave()
        thread.join()
        tell()
    if hosted.fault is not None:
        raise hosted.fault


def _on_ray(
    options: WorkOptions, workers: int, ray: str | None, over: threading.Event, done: Callable[[], bool]
) -> None:
    from infra.app import stages
    from jobs.running.actors import Workers

    with stages(options.serve, ray, _say, join=True) as route, contextlib.ExitStack() as held:
        _say(f"{workers} worker{'s' if workers > 1 else ''} with {route.facts.name} ({route.sha256[:12]})")
        team = Workers(options, workers)
        held.callback(team.close)
        with _told(team.status) as tell:
            while not over.wait(LOOK_S):
                tell()
                if done():
                    break
            _say("giving jobs back")


@contextlib.contextmanager
def _told(status: Callable[[], list[WorkerStatus]]) -> Iterator[Callable[[], None]]:
    """How far the workers are: one line that changes on a terminal, else nothing but what has ended."""
    from rich.console import Console

    console = Console(stderr=True)
    with contextlib.ExitStack() as held:
        if not console.is_terminal:
            yield lambda: None
            return
        live = held.enter_context(console.status("waiting for jobs"))

        def tell() -> None:
            found = status()
            jobs = {job: frames for worker in found for job, frames in worker.jobs.items()}
            ended = sum(worker.finished for worker in found)
            shown = ", ".join(f"{job[:24]} {done}/{total}" for job, (done, total) in sorted(jobs.items())[:4])
            live.update(f"{ended} attempts ended, {len(jobs)} under way {shown}")

        yield tell


def _say(text: str) -> None:
    print(f"ifmdm: {text}", file=sys.stderr, flush=True)
