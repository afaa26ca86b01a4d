"""`ifmdm serve [CONFIG]`: the service until Ctrl-C; `ifmdm serve switch MODEL --server URL`: another model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from ifmdm_core.commands.s3_options import s3_config
from ifmdm_core.config import load_config
from infra.commands.job_options import PrivateWebhooksOption, WebhookSecretOption, work_options
from serve.config import ServeConfig

_serve = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_switch = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

MlflowOption = Annotated[
    str | None,
    typer.Option(
        "--mlflow", metavar="URI", help="where models:/ names are looked up; default: $MLFLOW_TRACKING_URI"
    ),
]


def app(args: list[str], prog_name: str, standalone_mode: bool) -> Any:
    """The command's entry: `switch` is the one word that is no configuration file."""
    if args[:1] == ["switch"]:
        return _switch(args=args[1:], prog_name=f"{prog_name} switch", standalone_mode=standalone_mode)
    return _serve(args=args, prog_name=prog_name, standalone_mode=standalone_mode)


@_serve.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]", help="YAML or JSON; without one, the bundled model on this machine"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="change one setting; repeatable")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="auto|HOST:PORT", help="a running cluster; default: one of its own, here"
        ),
    ] = None,
    mlflow: MlflowOption = None,
    jobs: Annotated[
        str | None,
        typer.Option(
            "--jobs", metavar="ROOT", help="a job store: adds /v1/jobs and the page /jobs, and works on it"
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=10_000, help="processes that work on --jobs; 0 leaves that to others")
    ] = 1,
    slots: Annotated[int, typer.Option(min=1, max=256, help="jobs that each has under way at a time")] = 2,
    webhook_secret: WebhookSecretOption = None,
    allow_private_webhooks: PrivateWebhooksOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check and print the settings, start nothing")
    ] = False,
) -> None:
    """Serve renders over HTTP until Ctrl-C (or SIGTERM), which ends everything that was started.

    'ifmdm serve switch MODEL --server URL' changes the model of a service that runs.
    """
    from infra.app import resolved, running

    given = list(settings or ())
    if config is None and not any(setting.startswith("root=") for setting in given):
        given.append("root=ifmdm-service")
    chosen = resolved(
        load_config(ServeConfig, config, given), mlflow or os.environ.get("MLFLOW_TRACKING_URI")
    )
    options = None
    if jobs is not None:
        options = work_options(
            jobs, chosen, s3_config(), slots=slots, webhook_secret=webhook_secret,
            private_webhooks=allow_private_webhooks,
        )  # fmt: skip
        if chosen.oversight is None:  # one deny-list and one audit log for both ways in
            chosen = chosen.model_copy(update={"oversight": options.root})
    if dry_run:
        print(json.dumps(chosen.model_dump(mode="json"), indent=1))
        return
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell in the background made us ignore them
        signal.signal(number, _interrupted)
    with running(chosen, ray, _say, options, workers) as service:
        print(f"ifmdm serves {service.model} ({service.sha256[:12]}) at {service.address}")
        if chosen.gateway.studio:
            print(f"Studio  {service.address}/studio")
        if options is not None:
            print(f"Jobs    {service.address}/jobs")
        print(f"API     {service.address}/docs")
        print("Ctrl-C ends it.", flush=True)
        _wait()


@_switch.command()
def switch(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="demo, a folder, s3://…, models:/NAME@alias", show_default=False
        ),
    ],
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="the service; its admin token is in $IFMDM_TOKEN")
    ] = "http://127.0.0.1:8000",
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="what its bundle.json must hash to")
    ] = None,
    mlflow: MlflowOption = None,
) -> None:
    """Let a running service serve MODEL from now on; renders under way finish with the old one.

    A model that cannot be read or does not render is refused, and the old one goes on.
    """
    from infra.app import resolved
    from infra.commands.render import TOKEN
    from serve.client import Client

    named = resolved(
        ServeConfig(root=".", model=model, sha256=sha256), mlflow or os.environ.get("MLFLOW_TRACKING_URI")
    )
    with Client(server, os.environ.get(TOKEN)) as client:
        _say(f"{server}: rolling out {named.model}; this takes as long as loading it")
        served = client.switch(named.model, named.sha256)
    print(f"{server} serves {served.name} ({served.sha256[:12]})")


def _say(text: str) -> None:
    print(f"ifmdm: {text}", file=sys.stderr, flush=True)


def _wait() -> None:
    """Until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _interrupted(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would leave processes behind
    raise KeyboardInterrupt
