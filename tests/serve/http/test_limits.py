"""Slots, sizes and patience: what is refused before anything is understood of it."""

from __future__ import annotations

import contextlib
import time
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from ifmdm_core.errors import Cancelled
from serve import http_server
from serve.admission import Admission
from serve.protection.asgi import Receive, Scope, Send
from serve.protection.stack import protected
from tests.serve.gated import GatedStages, until
from tests.serve.gateways import Gateways, RunningGateway
from tests.serve.http.conftest import raw
from tests.serve.http.test_render import form


def test_a_render_too_many_is_refused_before_its_upload(
    gateways: Gateways, portrait: Path, speech: Path
) -> None:
    stages = GatedStages(gateways.stages(), first_held=1)
    gateway = gateways.start("gateway.limits.streams=1", stages=stages)
    request = httpx.Request("POST", f"{gateway.url}/v1/render", **form(portrait, speech))
    with raw(gateway, request):
        until(lambda: gateway.service.admission.held == 1, "the first render is let in")
        with raw(gateway, request, body=False) as second:
            answer = HTTPResponse(second)
            answer.begin()
            said = answer.read().decode()
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "all 1 streams are taken" in said
    stages.gate.set()
    until(lambda: gateway.service.admission.held == 0, "the first one is over")
    assert httpx.post(f"{gateway.url}/v1/render", timeout=60, **form(portrait, speech)).status_code == 200
    assert b'ifmdm_rejections_total{gateway="",reason="busy"} 1.0' in gateway.service.metrics.exposition()[0]


def test_a_declared_size_is_refused_before_the_upload(gateway: RunningGateway) -> None:
    request = httpx.Request("POST", f"{gateway.url}/v1/identities", headers={"Content-Length": "30000000"})
    with raw(gateway, request, body=False) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_an_undeclared_size_is_refused_where_the_limit_is_passed(gateway: RunningGateway) -> None:
    pieces = (b"x" * 65536 for _ in range(40))
    answer = httpx.post(f"{gateway.url}/v1/models", content=pieces, timeout=60)
    assert answer.status_code == 413
    assert "larger than 1 MB" in answer.json()["error"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("gateway.limits.portrait_mb=0.01", "portrait has 0."),
        ("gateway.limits.audio_mb=0.01", "audio has 0."),
        ("gateway.limits.audio_s=1", "2.0 seconds of sound; at most 1 are read"),
    ],
)
def test_what_is_too_large_is_413(
    gateways: Gateways, portrait: Path, speech: Path, setting: str, says: str
) -> None:
    gateway = gateways.start(setting)
    answer = httpx.post(f"{gateway.url}/v1/render", timeout=60, **form(portrait, speech))
    assert answer.status_code == 413
    assert says in answer.json()["error"]


def test_an_upload_that_stalls_gives_its_slot_back(gateways: Gateways, portrait: Path, speech: Path) -> None:
    gateway = gateways.start("gateway.limits.stall_s=0.3")
    request = httpx.Request("POST", f"{gateway.url}/v1/render", **form(portrait, speech))
    with raw(gateway, request, body=False) as connection:
        connection.sendall(request.read()[:1000])
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
    until(lambda: gateway.service.admission.held == 0, "the slot is given back")


def test_an_upload_that_trickles_has_an_end(gateways: Gateways, portrait: Path, speech: Path) -> None:
    gateway = gateways.start("gateway.limits.stall_s=30", "gateway.limits.upload_s=1")
    request = httpx.Request("POST", f"{gateway.url}/v1/render", **form(portrait, speech))
    body = request.read()
    with raw(gateway, request, body=False) as connection:
        connection.settimeout(0.05)
        said = b""
        for number in range(len(body)):  # a byte each time: the whole would take an hour
            connection.sendall(body[number : number + 1])
            try:
                said = connection.recv(4096)
                break
            except TimeoutError:
                continue
    assert said.startswith(b"HTTP/1.1 408")


def test_headers_that_come_slowly_or_never_are_cut_off(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEADER_S", 0.3)
    for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: "):
        request = httpx.Request("GET", f"{gateway.url}/healthz")
        with raw(gateway, request) as connection:  # a first request, then another one on the same connection
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.sendall(beginning or b"G")
            assert _ends(connection)


def test_headers_that_are_too_large_are_refused(gateway: RunningGateway) -> None:
    answer = httpx.get(f"{gateway.url}/healthz", headers={"X-Large": "x" * 100_000})
    assert answer.status_code == 431
    request = httpx.Request("GET", f"{gateway.url}/healthz", headers={"X-Large": "x" * 5_000_000})
    with contextlib.suppress(ConnectionError), raw(gateway, request) as connection:
        # The server does not read these to their end, so its answer may be lost in the reset.
        assert connection.recv(4096)[:10] in (b"", b"HTTP/1.1 4")


def test_a_refused_upload_is_not_read_forever(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "LINGER_S", 0.3)
    request = httpx.Request("POST", f"{gateway.url}/v1/nothing", headers={"Content-Length": "900000"})
    with raw(gateway, request, body=False) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 404")
        assert _ends(connection)


class Sender:
    """An application that sends a megabyte at a time, and counts them."""

    total = 200

    def __init__(self) -> None:
        self.sent, self.error = 0, ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for number in range(self.total):
                more = number + 1 < self.total
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": more})
                self.sent += 1
        except Cancelled as error:
            self.error = str(error)
            raise


def test_a_reader_that_stops_stops_the_sender(gateways: Gateways) -> None:
    sender = Sender()
    server = http_server.HttpServer(sender, "127.0.0.1", 0)
    port = gateways.run(server.start())
    with httpx.stream("GET", f"http://127.0.0.1:{port}/", timeout=60) as answer:
        pieces = answer.iter_raw()
        read = len(next(pieces))
        last, since = 0, time.monotonic()
        while time.monotonic() - since < 1:  # the buffers between here and there fill up, then nothing goes
            time.sleep(0.02)
            if sender.sent != last:
                last, since = sender.sent, time.monotonic()
        assert sender.sent < sender.total
        read += sum(len(piece) for piece in pieces)
    assert read == sender.total * 1_000_000
    gateways.run(server.stop(1))


def test_a_reader_that_takes_nothing_is_cut_off(gateways: Gateways) -> None:
    sender = Sender()
    config = gateways.serve_config("gateway.limits.reader_s=0.5").gateway
    server = http_server.HttpServer(
        protected(sender, config, Admission(1), lambda reason: None), "127.0.0.1", 0
    )
    port = gateways.run(server.start())
    with httpx.stream("GET", f"http://127.0.0.1:{port}/v1/models", timeout=60) as answer:
        until(lambda: sender.error, "the sender is stopped")
        with pytest.raises(httpx.TransportError):
            answer.read()
    assert "took nothing for 0.5 s" in sender.error
    gateways.run(server.stop(1))


def _ends(connection: object) -> bool:
    """Whether the other side closes the connection (an abort may show as a reset)."""
    try:
        while data := connection.recv(4096):  # type: ignore[attr-defined]
            assert data
    except ConnectionResetError:
        pass
    return True
