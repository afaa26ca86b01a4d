"""The gateway on Ray Serve: HTTP in front of replicas."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serve.client import Client
from serve.routes import read_route
from serve.verify import verify
from tests.serve.conftest import Service
from tests.serve.gated import until
from tests.serve.http.conftest import write_speech


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[Client]:
    """A client of a gateway before the session's stages."""
    from ray import serve

    from serve.gateway import NAME, build, gateway_port

    serve.run(build(service.config), name=NAME, route_prefix=None)
    with Client(f"http://127.0.0.1:{gateway_port()}") as client:
        yield client
    serve.delete(NAME)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    write_speech(path, 2.0)
    return path


def test_a_render_goes_through_all_of_it(
    served: Client, service: Service, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    done = served.render(portrait, speech, tmp_path / "out.mp4", progress=lambda *step: seen.append(step))
    assert done.frames == 50
    assert seen[-1] == (50, 50)
    assert verify(tmp_path / "out.mp4").good
    again = served.render(done.identity, speech, tmp_path / "again.mp4")
    assert again.identity == done.identity
    figures = httpx.get(f"{served.server}/metrics").text
    assert 'stage="motion"' in figures
    assert "ifmdm_render_first_frame_seconds_count" in figures


def test_another_model_is_served_from_now_on(
    served: Client,
    service: Service,
    make_bundle: Callable[..., Path],
    portrait: Path,
    speech: Path,
    tmp_path: Path,
) -> None:
    from ifmdm_core.storage import open_storage

    before = served.models()[0]
    other = make_bundle(tmp_path / "other", seed=5)
    switched = served.switch(str(other))
    assert switched.sha256 != before.sha256
    until(lambda: served.models()[0].sha256 == switched.sha256, "the gateway follows the route")
    assert served.render(portrait, speech, tmp_path / "out.mp4").frames == 50
    back = served.switch(service.config.model, before.sha256)
    assert back.sha256 == before.sha256
    route = read_route(open_storage(service.config.root))
    assert route is not None
    assert route.sha256 == before.sha256


def test_a_gateway_that_died_comes_back_on_a_port(
    served: Client, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    from serve.gateway import gateway_port

    (gateway,) = (
        process
        for process in psutil.process_iter()
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica:gateway")
        and process.username() == psutil.Process().username() and _ours(process)
    )  # fmt: skip
    os.kill(gateway.pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            port = gateway_port()
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
        except Exception:
            return False

    until(answers, "another gateway is ready")
    with Client(f"http://127.0.0.1:{gateway_port()}") as client:
        assert client.render(portrait, speech, tmp_path / "out.mp4").frames == 50


def _ours(process: psutil.Process) -> bool:
    """Whether it belongs to this test's Ray, and not to another one of this machine."""
    return psutil.Process().pid in {parent.pid for parent in process.parents()}
