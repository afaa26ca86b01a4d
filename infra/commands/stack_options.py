"""Options and printing that `up`, `down`, `status` and `demo` share."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.stack.home import Home
    from infra.stack.place import Place

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="the stack's folder; default: $IFMDM_HOME, or ./ifmdm-local"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print it as JSON")]


def interruptible() -> None:
    """SIGTERM as Ctrl-C, also where a shell in the background made us ignore that; a second one does not disturb."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)


def print_addresses(place: Place) -> None:
    """Where everything is."""
    gateway = place.url("gateway")
    if place.config.gateway.studio:
        print(f"Studio    {gateway}/studio")
    print(f"Jobs      {gateway}/jobs")
    print(f"API       {gateway}/docs")
    print(f"MLflow    {place.url('mlflow')}")
    ray = place.state.services["ray"].address
    print(f"Ray       {ray}")
    host = ray.rpartition(":")[0]
    print(f"Metrics   {gateway}/metrics, of Ray http://{host}:{place.port('ray-metrics')}/metrics")
    kept = "in memory: gone with ifmdm down" if place.state.settings.s3 else "a folder"
    print(f"Bucket    {place.bucket}  ({kept})")
    print(f"Logs      {shown(place.home.logs)}")
    print("For commands of your own on this stack:")
    for name, value in place.variables().items():
        print(f"  export {name}={shlex.quote(value)}")


def home_option(home: Home) -> str:
    """What has to be added to a command so that it means the same stack."""
    from infra.stack.home import Home as Homes

    return "" if Homes.find().folder == home.folder else f" --home {shlex.quote(shown(home.folder))}"


def shown(path: Path) -> str:
    """From here, where that is shorter."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def _interrupted(number: int, frame: object) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # a second one would leave processes behind
    raise KeyboardInterrupt
