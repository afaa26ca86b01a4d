"""One Ray without dashboard, with Serve and the tiny bundle's application, for all tests of serving."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.config import DecoderConfig, GatewayConfig, Scaling, ServeConfig, StageConfig

SMALL = {"cpus": 0.01, "batch_wait_s": 0.02}


def small_config(root: Path | str, model: Path | str) -> ServeConfig:
    """Every stage with up to two replicas, so that a call that loses one has another to go to."""
    scaling = Scaling(least=1, most=2, downscale_delay_s=600)
    return ServeConfig(
        root=str(root),
        model=str(model),
        speech=StageConfig(**SMALL, scaling=scaling),
        motion=StageConfig(**SMALL, scaling=scaling),
        decoder=DecoderConfig(**SMALL, cache_mb=8, chunk=5, scaling=Scaling(least=2, most=2)),
        gateway=GatewayConfig(cpus=0.01, port=0),
    )


@dataclass(frozen=True)
class Service:
    """The stages that run, and what they were made from."""

    config: ServeConfig


@pytest.fixture(scope="session")
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from ray import serve

    from pipelines.run.cluster import connect

    before = os.environ.get("IFMDM_CACHE")
    os.environ["IFMDM_CACHE"] = str(tmp_path_factory.mktemp("bundle-cache"))  # replicas inherit it
    try:
        with connect(cpus=4):
            yield
            serve.shutdown()
    finally:
        os.environ.pop("IFMDM_CACHE")
        if before is not None:
            os.environ["IFMDM_CACHE"] = before


@pytest.fixture(scope="session")
def service(_ray: None, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The tiny bundle is served (by its stages; the gateway is a fixture of its own)."""
    from serve.rollout import start

    config = small_config(tmp_path_factory.mktemp("service"), tiny_bundle)
    asyncio.run(start(config, config.model))
    return Service(config)
