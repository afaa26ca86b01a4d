"""Tokens, scopes, tenants, rates, and that nothing is reached without them, Studio and sockets included."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ifmdm_core.errors import BadInput
from serve.config import GatewayConfig
from serve.protection import callers
from serve.protection.callers import Callers
from serve.renders import RenderService
from tests.serve.gated import GatedStages, until
from tests.serve.gateways import Gateways, RunningGateway
from tests.serve.http.conftest import raw
from tests.serve.http.test_render import fetched, form, link


def sockets(app: FastAPI, service: RenderService, config: GatewayConfig) -> None:
    """A page with a WebSocket, and something mounted, as Studio is."""

    @app.websocket("/studio/socket")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        await connection.send_text(connection.state.caller.tenant)
        await connection.close()

    inner = FastAPI()
    inner.get("/page")(lambda: "inside")
    app.mount("/studio/mounted", inner)


@pytest.fixture(scope="module")
def guarded(gateways: Gateways) -> tuple[RunningGateway, dict[str, str]]:
    """A gateway with tokens of two tenants, an admin, and a scraper of metrics."""
    path, tokens = gateways.tokens(
        acme={}, other={}, boss={"scopes": ["admin"]}, scraper={"scopes": ["metrics"]}
    )
    return gateways.start(f"gateway.tokens={path}", pages=(sockets,)), tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


PATHS = [
    ("POST", "/v1/render"), ("POST", "/v1/identities"), ("GET", "/v1/models"), ("POST", "/v1/models"),
    ("GET", "/v1/files/" + "0" * 32), ("GET", "/metrics"), ("GET", "/studio"), ("GET", "/studio/mounted/page"),
    ("GET", "/studio/gradio_api/info"), ("POST", "/studio/gradio_api/upload"), ("GET", "/nothing"),
    ("GET", "/healthz/../metrics"), ("GET", "//metrics"), ("OPTIONS", "/v1/models"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong"), {"Cookie": "ifmdm_token=wrong"}, {"Authorization": "Basic eDp5"}]
)
def test_nothing_is_answered_without_a_token(
    guarded: tuple[RunningGateway, dict[str, str]], method: str, path: str, headers: dict[str, str]
) -> None:
    request = httpx.Request(method, guarded[0].url, headers=headers)
    request.url = request.url.copy_with(raw_path=path.encode())
    with raw(guarded[0], request) as connection:
        said = connection.recv(4096).decode()
    assert said.startswith("HTTP/1.1 401"), said
    assert "www-authenticate: Bearer" in said


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs", "/login"])
def test_some_paths_need_none(guarded: tuple[RunningGateway, dict[str, str]], path: str) -> None:
    assert httpx.get(guarded[0].url + path).status_code == 200


def test_scopes(guarded: tuple[RunningGateway, dict[str, str]]) -> None:
    gateway, tokens = guarded

    def status(name: str, method: str, path: str, **content: Any) -> int:
        return httpx.request(method, gateway.url + path, headers=bearer(tokens[name]), **content).status_code

    assert status("acme", "GET", "/v1/models") == 200
    assert status("acme", "GET", "/metrics") == 403
    assert status("acme", "POST", "/v1/models", json={"uri": "demo"}) == 403
    assert status("scraper", "GET", "/metrics") == 200
    assert status("scraper", "GET", "/v1/models") == 403
    assert status("boss", "GET", "/metrics") == 200
    assert status("boss", "POST", "/v1/models", json={"uri": "demo"}) == 422  # this one cannot switch


def test_a_socket_needs_a_token_too(guarded: tuple[RunningGateway, dict[str, str]]) -> None:
    gateway, tokens = guarded
    address = f"ws://127.0.0.1:{gateway.port}/studio/socket"

    async def spoken(**headers: str) -> str:
        async with connect(address, additional_headers=headers) as connection:
            return str(await connection.recv())

    assert asyncio.run(spoken(**bearer(tokens["acme"]))) == "acme"
    assert asyncio.run(spoken(Cookie=f"ifmdm_token={tokens['other']}")) == "other"
    for headers in ({}, bearer("wrong"), bearer(tokens["scraper"])):
        with pytest.raises(InvalidStatus) as refused:
            asyncio.run(spoken(**headers))
        assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus):  # a page elsewhere, whose reader has a cookie here
        asyncio.run(spoken(Cookie=f"ifmdm_token={tokens['other']}", Origin="https://example.com"))


def test_a_browser_is_led_to_the_login_and_back(guarded: tuple[RunningGateway, dict[str, str]]) -> None:
    gateway, tokens = guarded
    with httpx.Client(base_url=gateway.url) as browser:
        led = browser.get("/studio/mounted/page", headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (303, "/login?next=/studio/mounted/page")
        assert 'value="/studio/mounted/page"' in browser.get(led.headers["location"]).text
        done = browser.post("/login", data={"token": tokens["acme"], "next": "/studio/mounted/page"})
        assert (done.status_code, done.headers["location"]) == (303, "/studio/mounted/page")
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert browser.get("/studio/mounted/page").text == '"inside"'


@pytest.mark.parametrize(
    "target", ["https://example.com", "//example.com", "/\\example.com", "x", "/a\r\nX: y"]
)
def test_the_login_leads_nowhere_else(guarded: tuple[RunningGateway, dict[str, str]], target: str) -> None:
    done = httpx.post(f"{guarded[0].url}/login", data={"token": "x", "next": target})
    assert done.headers["location"] == "/studio"


def test_a_tenant_sees_its_own_only(
    guarded: tuple[RunningGateway, dict[str, str]], portrait: Path, speech: Path
) -> None:
    gateway, tokens = guarded
    with (
        httpx.Client(base_url=gateway.url, headers=bearer(tokens["acme"]), timeout=60) as acme,
        httpx.Client(base_url=gateway.url, headers=bearer(tokens["other"]), timeout=60) as other,
    ):
        digest = acme.post("/v1/identities", files={"portrait": portrait.read_bytes()}).json()["digest"]
        made = acme.post("/v1/render", **form(None, speech, identity=digest))
        assert made.status_code == 200
        assert other.post("/v1/render", **form(None, speech, identity=digest)).status_code == 404
        assert fetched(acme, link(made)).status_code == 200
        assert other.get(link(made)).status_code == 404


def test_a_tenant_has_so_many_renders_at_once(gateways: Gateways, portrait: Path, speech: Path) -> None:
    path, tokens = gateways.tokens(few={"renders": 1}, many={})
    stages = GatedStages(gateways.stages(), first_held=1)
    gateway = gateways.start(f"gateway.tokens={path}", stages=stages)
    given = form(portrait, speech)
    request = httpx.Request("POST", f"{gateway.url}/v1/render", headers=bearer(tokens["few"]), **given)
    with raw(gateway, request):
        until(lambda: gateway.service.admission.held == 1, "the first is let in")
        refused = httpx.post(f"{gateway.url}/v1/render", headers=bearer(tokens["few"]), **given)
        assert refused.status_code == 429
        assert "1 renders of 'few'" in refused.json()["error"]
        stages.gate.set()
        taken = httpx.post(f"{gateway.url}/v1/render", headers=bearer(tokens["many"]), timeout=60, **given)
        assert taken.status_code == 200


def test_a_token_has_a_rate(gateways: Gateways) -> None:
    path, tokens = gateways.tokens(slow={"per_minute": 3}, other={})
    gateway = gateways.start(f"gateway.tokens={path}")
    answers = [httpx.get(f"{gateway.url}/v1/models", headers=bearer(tokens["slow"])) for _ in range(5)]
    assert [answer.status_code for answer in answers].count(200) in (
        3,
        4,
    )  # a token may have come back meanwhile
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert httpx.get(f"{gateway.url}/v1/models", headers=bearer(tokens["other"])).status_code == 200


def test_guessing_is_slowed_down(gateways: Gateways) -> None:
    path, _ = gateways.tokens(acme={})
    gateway = gateways.start(f"gateway.tokens={path}")
    with httpx.Client(base_url=gateway.url) as client:
        statuses = {client.get("/v1/models", headers=bearer(f"guess{n}")).status_code for n in range(60)}
    assert statuses == {401, 429}


def test_a_revoked_token_ends_and_a_broken_file_changes_nothing(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "LOOK_S", 0.0)
    path, tokens = gateways.tokens(acme={}, other={})
    known = Callers(path)
    assert known.find(tokens["acme"]) is not None
    entries = yaml.safe_load(path.read_text())["tokens"]
    path.write_text("tokens: [}")
    assert known.find(tokens["acme"]) is not None
    path.write_text(yaml.safe_dump({"tokens": entries[1:]}))
    assert known.find(tokens["acme"]) is None
    assert known.find(tokens["other"]) is not None


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"sha256": "plain-token"}, "sha256"),
        ({"tenant": "../x"}, "tenant"),
        ({"scopes": ["root"]}, "scopes"),
        ({"limits": 3}, "limits"),
    ],
)
def test_a_wrong_token_file_stops_the_start(gateways: Gateways, entry: dict[str, Any], says: str) -> None:
    path, _ = gateways.tokens(acme=entry)
    with pytest.raises(BadInput, match=says):
        Callers(path)


def test_tokens_are_in_no_log(
    guarded: tuple[RunningGateway, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    gateway, tokens = guarded
    with caplog.at_level(logging.DEBUG):
        for headers in (
            bearer(tokens["acme"]),
            bearer("a-wrong-token"),
            {"Cookie": f"ifmdm_token={tokens['acme']}"},
        ):
            httpx.get(f"{gateway.url}/v1/models", headers=headers)
    ours = [record for record in caplog.records if record.name.startswith("serve")]
    assert any("/v1/models 200" in record.getMessage() for record in ours)
    text = "\n".join(str(vars(record)) for record in ours)
    assert tokens["acme"] not in text
    assert "a-wrong-token" not in text


def test_without_a_token_file_only_this_machine_and_its_own_pages_are_let_in(http: httpx.Client) -> None:
    assert http.get("/v1/models").status_code == 200
    assert http.get("/v1/models", headers={"Host": "evil.example.com"}).status_code == 403
    assert http.post("/v1/models", headers={"Origin": "https://evil.example.com"}).status_code == 403
    assert http.get("/v1/models", headers={"Origin": str(http.base_url).rstrip("/")}).status_code == 200


def test_without_a_token_file_nobody_else_is_let_in(gateway: RunningGateway) -> None:
    from serve.protection.access import Access, Unauthenticated

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("let in")

    scope = {
        "type": "http", "method": "GET", "path": "/v1/models", "client": ("10.0.0.7", 5),
        "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    with pytest.raises(Unauthenticated):
        asyncio.run(Access(never, None)(scope, never, never))
