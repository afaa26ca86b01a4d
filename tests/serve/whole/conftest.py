"""The service as users start it: `ifmdm serve` in processes of its own, started once for these tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.mlflow_server import MlflowServer
from tests.service_process import ServiceProcess

STREAMS = 4


@dataclass(frozen=True)
class Whole:
    """What runs."""

    service: ServiceProcess
    mlflow: MlflowServer
    """It named the model, and has been killed since."""


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Whole]:
    """The tiny bundle, named by an MLflow that is gone. Ctrl-C must end it without leaving anything behind."""
    from pipelines.registry import api

    room = tmp_path_factory.mktemp("whole")
    mlflow = MlflowServer(room / "mlflow")
    settings = [f"gateway.limits.streams={STREAMS}", "decoder.chunk=5", "gateway.studio=false"]
    try:
        mlflow.start()
        version = api.register(
            "served", str(tiny_bundle), store=str(room / "store"), mlflow=mlflow.uri
        ).version
        reference = f"model=models:/served/{version.version}"
        env = {"MLFLOW_TRACKING_URI": mlflow.uri, "IFMDM_CACHE": str(room / "cache")}
        with ServiceProcess(room / "service", reference, *settings, env=env) as service:
            mlflow.kill()
            yield Whole(service, mlflow)
            code = service.stop()
    finally:
        mlflow.stop()
    assert code in (0, 130), service.last_words()
    assert service.left_over == []
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.url}/healthz", timeout=5)


@pytest.fixture
def url(whole: Whole) -> str:
    """Where it listens."""
    return whole.service.url
