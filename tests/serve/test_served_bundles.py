"""Render jobs over replicas on Ray: the bundle in force, and earlier ones beside it. It needs the cluster here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ifmdm_core.provenance import read_tags, sha256_of_file
from ifmdm_core.storage import open_storage
from jobs.rendering.renderer import FlowRenderer
from jobs.rendering.served_bundles import ServedBundles
from serve.application import name_of
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


def test_a_job_of_an_earlier_model_is_rendered_with_that_model(
    service: Service, make_bundle: Callable[..., Path], portrait: Path, tmp_path: Path
) -> None:
    from ray import serve

    old = make_bundle(tmp_path / "old", seed=7)
    digest = sha256_of_file(old / "bundle.json")
    place = Place(open_storage(tmp_path / "store"), old, digest)
    route = read_route(open_storage(service.config.root))
    bundles = ServedBundles(service.config)
    renderer = FlowRenderer(service.config, bundles)
    try:
        task = place.task(portrait.read_bytes(), recording(1.0))
        with renderer.render(task, Reports()) as rendered:
            assert len(frames_of(rendered.path)) == 25
            tags = read_tags(rendered.path)
        assert tags is not None
        assert tags["model_sha256"] == digest
        assert name_of(digest) in serve.status().applications
    finally:
        renderer.close()
    assert name_of(digest) not in serve.status().applications  # nobody needs it any more
    assert read_route(open_storage(service.config.root)) == route
