"""Leases and the route, without a cluster."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ifmdm_core.errors import Conflict, Unavailable
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.speech_windows import SpeechWindows
from ifmdm_core.storage import Storage, open_storage
from serve import routes
from serve.messages import ModelFacts
from serve.routes import Lease, LeaseWatch, Route, Routes, read_route, write_route

FACTS = ModelFacts(
    name="tiny",
    digest="0" * 64,
    size=64,
    chunk=8,
    motion=MotionConfig(
        speech_dim=16, width=16, depth=2, heads=2, prediction="sample", window=50, context=10, overlap=4
    ),
    speech=SpeechWindows(stride=320, receptive=400, window=500, overlap=100, dim=16),
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


def _route(digit: str) -> Route:
    return Route(application=f"model-{digit}", uri="demo", sha256=digit * 64, facts=FACTS)


def test_a_route_is_read_as_it_was_written(storage: Storage) -> None:
    assert read_route(storage) is None
    write_route(storage, _route("a"))
    assert read_route(storage) == _route("a").model_copy(update={"since": read_route(storage).since})
    storage.put("routes.json", b'{"version": 1, "later": true}')
    with pytest.raises(Conflict, match=r"routes\.json"):
        read_route(storage)


def test_an_application_is_held_while_anybody_has_a_lease(storage: Storage) -> None:
    watch = LeaseWatch(storage, "model-a")

    async def main() -> None:
        async with Lease(storage, "model-a", "first"):
            async with Lease(storage, "model-a", "second"):
                assert watch.held()
            assert watch.held()
            assert not LeaseWatch(storage, "model-b").held()
        assert not watch.held()

    asyncio.run(main())


def test_a_lease_is_renewed_and_one_whose_holder_died_runs_out(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "RENEW_S", 0.02)
    watch = LeaseWatch(storage, "model-a")
    path = tmp_path / "leases" / "model-a" / "me"

    async def main() -> None:
        async with Lease(storage, "model-a", "me"):
            first = path.stat().st_mtime_ns
            while path.stat().st_mtime_ns == first:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert not path.exists()
    storage.put("leases/model-a/dead", b"")
    os.utime(tmp_path / "leases" / "model-a" / "dead", (0, 0))  # old by any clock, but nobody compares clocks
    assert watch.held()
    monkeypatch.setattr(routes, "LEASE_S", 0.0)
    assert not watch.held()
    assert not (tmp_path / "leases" / "model-a" / "dead").exists()


def test_without_a_route_there_is_nothing_to_render_with(tmp_path: Path) -> None:
    async def main() -> None:
        async with Routes(str(tmp_path)) as following:
            assert following.listed() == []
            with pytest.raises(Unavailable, match="no model is ready"):
                async with following.lease():
                    pass

    asyncio.run(main())
