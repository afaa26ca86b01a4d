"""The services of a stack: what each needs, how it is started, how one sees that it is well."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import psutil

from infra.stack.place import Place
from infra.stack.ports import answers
from infra.stack.processes import family, find
from infra.stack.state import Started

PYTHON = (sys.executable, "-P")
"""-P: a folder of the user's that is called as a package of ours is not imported."""
OBJECT_STORE_BYTES = 256 << 20
"""Results are records of a few kilobytes; frames and shards never cross Ray's object store."""
LOOK_S = 5.0
"""Longest wait for an answer when a service is looked at."""

SERVES = "Ctrl-C ends it."
"""What `ifmdm serve` says last, once all of it runs."""

Health = Literal["ready", "ill", "dead"]
"""`ill` runs and does not answer as it should; `dead` does not run, or cannot come back on its own."""


@dataclass(frozen=True)
class Look:
    """How a service is."""

    health: Health
    why: str = ""


READY = Look("ready")


@dataclass(frozen=True)
class Service:
    """One service: a process with whatever it starts."""

    name: str
    title: str
    needs: tuple[str, ...]
    """Started after these, and again whenever one of them is."""
    ports: dict[str, int | None]
    """Name -> the one it would like."""
    memory_mb: int
    """Measured on a laptop's settings, with all that it starts."""
    packages: tuple[str, ...]
    command: Callable[[Place], list[str]]
    address: Callable[[Place], str]
    """Where others reach it; asked when it runs."""
    look: Callable[[Place, Started], Look]
    start_s: float
    """Longest wait until it is ready, on a slow machine that does other things too."""
    after: tuple[str, ...] = ()
    """Not started before these are ready either, which have little time for their own start."""
    again_after: str | None = None
    """Where this stands in its log it is started once more: it gave up on a busy machine."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of its environment, beside those of the stack."""


def services_of(place: Place) -> list[Service]:
    """Those of this stack, each after what it needs."""
    return [*([_s3()] if place.state.settings.s3 else ()), _ray(), _mlflow(), _serve(place)]


def _s3() -> Service:
    return Service(
        name="s3",
        title="S3, in memory",
        needs=(),
        ports={"s3": None},
        memory_mb=150,
        packages=("moto", "werkzeug"),
        command=lambda place: [*PYTHON, "-m", "infra.stack.s3_server", str(place.port("s3"))],
        address=lambda place: place.url("s3"),
        look=lambda place, started: _looked(started, place.url("s3")),
        start_s=60,
    )


def _mlflow() -> Service:
    def command(place: Place) -> list[str]:
        return [
            *PYTHON, "-m", "mlflow", "server", "--workers", "1",
            "--host", "127.0.0.1", "--port", str(place.port("mlflow")),
            "--backend-store-uri", f"sqlite:///{place.home.mlflow / 'mlflow.db'}",
            "--artifacts-destination", str(place.home.mlflow / "artifacts"),
        ]  # fmt: skip

    return Service(
        name="mlflow",
        title="MLflow",
        needs=(),
        ports={"mlflow": 5000},
        memory_mb=500,
        packages=("mlflow",),
        command=command,
        address=lambda place: place.url("mlflow"),
        look=lambda place, started: _looked(started, f"{place.url('mlflow')}/health"),
        start_s=300,
        after=("ray",),  # it is ready before the stages are in any case
        # Without its job runners, for features that are not used here, it has a third of the processes.
        variables={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "OMP_NUM_THREADS": "1"},
    )


def _ray() -> Service:
    def command(place: Place) -> list[str]:
        import math

        from infra.app import cpus_needed

        options = {
            "port": place.port("ray"),
            "ray-client-server-port": place.port("ray-client"),
            "dashboard-port": place.port("ray-dashboard"),
            "dashboard-agent-listen-port": place.port("ray-agent"),
            "metrics-export-port": place.port("ray-metrics"),
            "temp-dir": f"{place.state.temp}/ray",
            "num-cpus": cpus_needed(place.config) + math.ceil(place.state.settings.workers / 10),
            "object-store-memory": OBJECT_STORE_BYTES,
            "include-dashboard": "false",
            "include-log-monitor": "false",
            "log-style": "record",
            "log-color": "false",
        }
        return [
            *PYTHON, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
            *(f"--{name}={value}" for name, value in options.items()),
        ]  # fmt: skip

    def address(place: Place) -> str:
        # Ray chooses which of the machine's addresses it takes; loopback it never takes.
        said = re.search(r"Local node IP: (\S+)", place.home.log("ray").read_text(errors="replace"))
        return f"{said[1] if said else '127.0.0.1'}:{place.port('ray')}"

    def look(place: Place, started: Started) -> Look:
        process = find(started)
        if process is None:
            return Look("dead", "its process has gone")
        if "Ray runtime started" not in place.home.log("ray").read_text(errors="replace"):
            return Look("ill", "it is starting")
        if missing := ray_lacks(started):
            return Look("dead", f"its {' and '.join(sorted(missing))} has gone")
        return READY if answers(address(place), LOOK_S) else Look("ill", f"{address(place)} does not answer")

    return Service(
        name="ray",
        title="Ray",
        needs=(),
        ports=dict.fromkeys(("ray", "ray-client", "ray-dashboard", "ray-agent", "ray-metrics")),
        memory_mb=700,
        packages=("ray",),
        command=command,
        address=address,
        look=look,
        start_s=300,
        again_after="timed out during startup",  # Ray gives its own processes 30 s
    )


def _serve(place: Place) -> Service:
    settings = place.state.settings

    def command(place: Place) -> list[str]:
        ray = place.state.services["ray"].address
        return [
            *PYTHON, "-m", "infra.cli", "serve", str(place.home.serve_config), "--ray", ray,
            "--mlflow", place.url("mlflow"), "--jobs", place.jobs, "--workers", str(settings.workers),
        ]  # fmt: skip

    def look(place: Place, started: Started) -> Look:
        seen = _looked(started, f"{place.url('gateway')}/readyz")
        if seen == READY and SERVES not in place.home.log("serve").read_text(errors="replace"):
            return Look("ill", "its job workers are starting")  # the gateway answers before them
        return seen

    named = place.config.model.startswith("models:")
    return Service(
        name="serve",
        title="gateway, stages, job workers" if settings.workers else "gateway, stages",
        needs=("ray", *(["s3"] if settings.s3 else ()), *(["mlflow"] if named else ())),
        ports={"gateway": place.config.gateway.port or None},
        memory_mb=1500,
        packages=("ray", "fastapi", *(["gradio"] if place.config.gateway.studio else ())),
        command=command,
        address=lambda place: place.url("gateway"),
        look=look,
        start_s=600,
    )


def _looked(started: Started, url: str) -> Look:
    if find(started) is None:
        return Look("dead", "its process has gone")
    try:
        with urllib.request.urlopen(url, timeout=LOOK_S):
            return READY
    except urllib.error.HTTPError as error:
        return Look("ill", f"{url} answers {error.code}")
    except OSError as error:
        return Look("ill", f"{url} does not answer: {getattr(error, 'reason', error)}")


def ray_lacks(started: Started) -> set[str]:
    """Processes that a Ray head does not live without, and which have gone."""
    process = find(started)
    return {"gcs_server", "raylet"} - {_name(member) for member in (family(process) if process else ())}


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""
