"""The service as users start it: `ifmdm serve` in processes of its own, spoken to over HTTP.

MLflow names the model when the command starts, and is then stopped: whatever dies afterwards must come back without it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ifmdm_core.bundle import load_bundle
from pipelines.registry import api
from tests.benchmarks.serve_clients import Inputs, count_frames
from tests.mlflow_server import MlflowServer
from tests.service_process import ServiceProcess

WAIT_S = 180.0


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path
) -> Iterator[tuple[ServiceProcess, MlflowServer]]:
    """A service whose model MLflow named, and that MLflow, which has been killed since."""
    room = tmp_path_factory.mktemp("service")
    mlflow = MlflowServer(room / "mlflow")
    try:
        mlflow.start()
        name = api.register("served", str(tiny_bundle), store=str(room / "store"), mlflow=mlflow.uri).version
        env = {"MLFLOW_TRACKING_URI": mlflow.uri, "IFMDM_CACHE": str(room / "cache")}
        reference = f"model=models:/served/{name.version}"
        with ServiceProcess(room / "service", reference, env=env) as started:
            mlflow.kill()
            yield started, mlflow
    finally:
        mlflow.stop()


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs([2.0])


def render(service: ServiceProcess, inputs: Inputs, wait_s: float = 0) -> None:
    """A render succeeds, at once or (while something starts again) within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            answer = httpx.post(f"{service.url}/v1/render", timeout=WAIT_S, **inputs.form(2.0, steps=2))
            if answer.status_code == 200:
                assert count_frames(answer.content)[0] == 50
                return
            said = f"{answer.status_code} {answer.text}"
        except httpx.TransportError as error:
            said = repr(error)
        assert time.monotonic() < deadline, f"{said}\n{service.last_words()}"
        time.sleep(0.5)


def replica(service: ServiceProcess, part: str) -> psutil.Process:
    """The one replica whose title names `part`."""
    (found,) = (process for process in service.replicas() if f":{part}" in process.cmdline()[0])
    return found


def until(condition: Callable[[], bool], service: ServiceProcess) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, service.last_words()
        time.sleep(0.25)


def test_the_model_that_mlflow_named_is_served(
    service: tuple[ServiceProcess, MlflowServer], inputs: Inputs, tiny_bundle: Path
) -> None:
    started, mlflow = service
    with pytest.raises(httpx.TransportError):
        httpx.get(mlflow.uri, timeout=5)
    (model,) = httpx.get(f"{started.url}/v1/models").json()["models"]
    assert model["sha256"] == load_bundle(tiny_bundle).digest
    render(started, inputs)


@pytest.mark.parametrize("part", ["speech", "motion", "decoder", "gateway"])
def test_without_mlflow_a_killed_replica_comes_back_and_renders(
    part: str, service: tuple[ServiceProcess, MlflowServer], inputs: Inputs
) -> None:
    started, _ = service
    before = replica(started, part)
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        names = [process for process in started.replicas() if f":{part}" in process.cmdline()[0]]
        return any(process.pid != before.pid for process in names)

    until(is_back, started)
    render(started, inputs, wait_s=WAIT_S)


def test_ctrl_c_ends_all_it_started(tmp_path: Path, tiny_bundle: Path) -> None:
    with ServiceProcess(tmp_path, f"model={tiny_bundle}") as started:
        members = started.memory_mb()
        assert any(name.startswith("ServeReplica") for name in members)
        code = started.stop()
    assert code in (0, 130)
    assert started.left_over == []
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{started.url}/healthz", timeout=5)
