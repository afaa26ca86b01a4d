"""MLflow names the model when the service starts, and is then gone: what dies afterwards must come back without it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ifmdm_core.bundle import load_bundle
from tests.benchmarks.serve_clients import Inputs, count_frames
from tests.serve.whole.conftest import Whole
from tests.service_process import ServiceProcess

WAIT_S = 180.0


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


def until(condition: Callable[[], bool], service: ServiceProcess) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, service.last_words()
        time.sleep(0.25)


def test_the_model_that_mlflow_named_is_served(whole: Whole, inputs: Inputs, tiny_bundle: Path) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(whole.mlflow.uri, timeout=5)
    (model,) = httpx.get(f"{whole.service.url}/v1/models").json()
    assert model["sha256"] == load_bundle(tiny_bundle).digest
    render(whole.service, inputs)


@pytest.mark.parametrize(
    "parts", [("speech", "motion", "decoder"), ("gateway",)], ids=["all stages", "the gateway"]
)
def test_without_mlflow_killed_replicas_come_back_and_render(
    parts: tuple[str, ...], whole: Whole, inputs: Inputs
) -> None:
    before = {part: whole.service.replicas(part) for part in parts}
    assert [len(pids) for pids in before.values()] == [1] * len(parts)
    for (pid,) in before.values():
        os.kill(pid, signal.SIGKILL)

    def are_back() -> bool:
        return all(set(whole.service.replicas(part)) - set(pids) for part, pids in before.items())

    until(are_back, whole.service)
    render(whole.service, inputs, wait_s=WAIT_S)
