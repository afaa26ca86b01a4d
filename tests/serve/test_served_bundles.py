"""Render jobs over replicas on Ray: the stages of the bundle in force, and only those. It needs the cluster here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ifmdm_core.errors import Unavailable
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import open_storage
from jobs.rendering.renderer import FlowRenderer
from jobs.rendering.served_bundles import ServedBundles
from serve.routes import read_route
from tests.jobs.rendering.places import Place, Reports, frames_of, recording
from tests.serve.conftest import Service


@pytest.fixture
def bundles(service: Service) -> ServedBundles:
    return ServedBundles(service.config)


@pytest.fixture
def renderer(service: Service, bundles: ServedBundles) -> Iterator[FlowRenderer]:
    renderer = FlowRenderer(service.config, bundles)
    yield renderer
    renderer.close()


@pytest.fixture
def place(tiny_bundle: Path, tmp_path: Path) -> Place:
    return Place(open_storage(tmp_path / "store"), tiny_bundle, sha256_of_file(tiny_bundle / "bundle.json"))


def test_a_job_is_rendered_by_the_service(
    service: Service, bundles: ServedBundles, renderer: FlowRenderer, place: Place, portrait: Path
) -> None:
    store = open_storage(service.config.root)
    route = read_route(store)
    assert route is not None
    task = place.task(portrait.read_bytes(), recording(2.0))
    holding: list[int] = []

    def count(done: int, total: int) -> bool:
        holding.append(sum(1 for _ in store.list(f"leases/{route.application}/")))
        return False

    with renderer.render(task, Reports(count)) as rendered:
        assert len(frames_of(rendered.path)) == 50
    assert max(holding) == 1
    assert place.metrics(task)["stages"]["decoder"]["calls"] >= 10
    assert bundles.serves(place.digest)


def test_a_bundle_that_is_not_deployed_is_waited_for_elsewhere(
    bundles: ServedBundles, renderer: FlowRenderer, place: Place, portrait: Path
) -> None:
    task = place.task(portrait.read_bytes(), recording(1.0), bundle_sha256="5" * 64)
    with (
        pytest.raises(Unavailable, match="555… is not deployed; served is tiny"),
        renderer.render(task, Reports()),
    ):
        pass
    assert not bundles.serves("5" * 64)
