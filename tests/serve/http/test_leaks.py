"""What a render held is given back when it ends, not when the garbage collector comes by."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.render_stream import RenderStream
from tests.serve.gated import until
from tests.serve.gateways import RunningGateway
from tests.serve.http.test_render import form


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[RenderStream]]]:
    """Every stream that is made, with the garbage collector off."""
    made: list[weakref.ref[RenderStream]] = []
    before = RenderStream.__init__

    def noted(self: RenderStream, **given: Any) -> None:
        made.append(weakref.ref(self))
        before(self, **given)

    monkeypatch.setattr(RenderStream, "__init__", noted)
    gc.collect()
    gc.disable()
    yield made
    gc.enable()


def require_gone(streams: list[weakref.ref[RenderStream]], count: int) -> None:
    assert len(streams) == count
    until(lambda: not any(ref() is not None for ref in streams), "the streams are gone")


def test_after_renders_that_were_read(
    http: httpx.Client, streams: list[weakref.ref[RenderStream]], portrait: Path, speech: Path
) -> None:
    for delivery in ("stream", "file", "stream"):
        answer = http.post("/v1/render", **form(portrait, speech, delivery=delivery))
        assert answer.status_code == 200, answer.text
    require_gone(streams, 3)


def test_after_renders_that_were_given_up(
    gateway: RunningGateway, streams: list[weakref.ref[RenderStream]], portrait: Path, speech: Path
) -> None:
    for _ in range(3):
        with httpx.stream(
            "POST", f"{gateway.url}/v1/render", timeout=120, **form(portrait, speech)
        ) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
    require_gone(streams, 3)
