"""Every line a request causes carries its id; a render's last line says what it cost; no token gets there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.logs import OURS, log_to
from tests.serve.gated import until
from tests.serve.gateways import Gateways
from tests.serve.http.test_render import form


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged during the test."""
    loggers = [logging.getLogger(name) for name in OURS]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    stream = io.StringIO()
    log_to(stream)
    yield stream
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(written: io.StringIO, identifier: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    return [line for line in found if line.get("request_id") == identifier]


def test_the_lines_of_a_render(
    http: httpx.Client, written: io.StringIO, portrait: Path, speech: Path
) -> None:
    answer = http.post("/v1/render", headers={"X-Request-Id": "mine-1"}, **form(portrait, speech))
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine-1"
    until(lambda: len(lines(written, "mine-1")) >= 2, "both lines are there")
    by_message = {line["message"]: line for line in lines(written, "mine-1")}
    render = by_message["render finished"]
    assert render["render"] == answer.headers["x-ifmdm-render-id"]
    assert render["frames"] == 50
    assert set(render["busy_s"]) == {"speech", "motion", "decoder"}
    assert min(render["busy_s"].values()) > 0
    assert 0 < render["first_frame_s"] <= render["seconds"]
    assert "POST /v1/render 200" in by_message


def test_a_refusal_says_its_id_and_not_its_token(
    gateways: Gateways, written: io.StringIO, portrait: Path, speech: Path
) -> None:
    path, tokens = gateways.tokens(shop={"scopes": ["render"]})
    gateway = gateways.start(f"gateway.tokens={path}")
    for given in (tokens["shop"], "wrong-" + tokens["shop"]):
        headers = {"Authorization": f"Bearer {given}"}
        answer = httpx.post(f"{gateway.url}/v1/models", headers=headers, json={"uri": "demo"}, timeout=60)
        assert answer.status_code in (401, 403)
        identifier = answer.json()["request_id"]
        assert identifier == answer.headers["x-request-id"]
        until(lambda: bool(lines(written, identifier)), "its line is there")  # noqa: B023
    assert tokens["shop"] not in written.getvalue()
