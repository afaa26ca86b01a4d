"""A renderer over real, tiny networks in this process, and stores on a folder and on S3."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config, open_storage
from jobs.rendering.bundles import LocalBundles
from jobs.rendering.renderer import FlowRenderer
from serve.config import DecoderConfig, GatewayConfig, Limits, ServeConfig, StageConfig
from tests.jobs.rendering.places import Place, WatchedBundles, recording


@pytest.fixture(scope="session")
def lively_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]) -> Path:
    """Tiny networks that move a lot."""
    return make_bundle(tmp_path_factory.mktemp("rendering") / "lively", seed=3)


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServeConfig:
    """Without batching: then the same request gives the same bytes."""
    alone = StageConfig(batch=1, batch_wait_s=0)
    return ServeConfig(
        root=str(tmp_path_factory.mktemp("service")),
        speech=alone,
        motion=alone,
        decoder=DecoderConfig(batch=1, batch_wait_s=0, precision="fp32", chunk=8),
        gateway=GatewayConfig(limits=Limits(portrait_mb=1, audio_mb=2, audio_s=30, steps=50)),
    )


@pytest.fixture(scope="session")
def _bundles(config: ServeConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedBundles]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IFMDM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield WatchedBundles(LocalBundles(config))


@pytest.fixture(scope="session")
def _renderer(config: ServeConfig, _bundles: WatchedBundles) -> Iterator[FlowRenderer]:
    renderer = FlowRenderer(config, _bundles)
    yield renderer
    renderer.close()


@pytest.fixture
def bundles(_bundles: WatchedBundles) -> WatchedBundles:
    """Counts the renderer's calls, from 0 on."""
    _bundles.reset()
    return _bundles


@pytest.fixture
def renderer(_renderer: FlowRenderer, bundles: WatchedBundles) -> FlowRenderer:
    return _renderer


@pytest.fixture
def place(lively_bundle: Path, tmp_path: Path) -> Place:
    """A store in a folder."""
    return Place(
        open_storage(tmp_path / "store"), lively_bundle, sha256_of_file(lively_bundle / "bundle.json")
    )


@pytest.fixture(params=["folder", "s3"])
def either_place(request: pytest.FixtureRequest, place: Place, s3_config: S3Config) -> Place:
    """The same on both kinds of store."""
    if request.param == "s3":
        place.storage = open_storage(f"s3://renders/{uuid.uuid4().hex}", s3_config)
    return place


@pytest.fixture(scope="session")
def photo(portrait: Path) -> bytes:
    return portrait.read_bytes()


@pytest.fixture(scope="session")
def speech() -> bytes:
    """4 s: 100 frames, 13 chunks, 3 windows of motion."""
    return recording(4.0)
