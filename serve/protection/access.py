"""Who is calling, and may they: bearer tokens, Studio's cookie, or this machine itself while there are no tokens."""

from __future__ import annotations

import ipaddress
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from ifmdm_core.errors import Busy, Forbidden
from serve.protection.asgi import App, Receive, Send, cookies, header, state
from serve.protection.asgi import Scope as AsgiScope
from serve.protection.callers import LOCAL, Caller, Callers, Scope
from serve.protection.rates import Bucket

OPEN = ("/healthz", "/readyz", "/login", "/docs", "/openapi.json")
"""Paths that say nothing worth a token."""
NEEDED: tuple[tuple[str, Scope], ...] = (("/metrics", "metrics"),)
"""Path prefixes with another scope than render; the admin's routes ask for theirs themselves."""
PAGES = ("/studio", "/jobs")
"""Path prefixes of pages for people, who are led to the login; programs are told."""
COOKIE = "ifmdm_token"
WRONG_PER_MINUTE = 30.0
"""Wrong tokens an address may try."""
MOST_ADDRESSES = 10_000


class Unauthenticated(Forbidden):
    """No token, or a wrong one."""

    http_status = 401


class Access:
    """Lets a request through with its `Caller` in the state, or raises Forbidden (401 or 403), Busy.

    Args:
        callers: the tokens; None lets in whoever calls from this machine.
    """

    def __init__(self, app: App, callers: Callers | None) -> None:
        self._app, self._callers = app, callers
        self._wrong: dict[str, Bucket] = {}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._caller(scope)
        except Unauthenticated:
            if not _wants_page(scope):
                raise
            await _to_login(scope, send)
            return
        needed: Scope = next((need for prefix, need in NEEDED if scope["path"].startswith(prefix)), "render")
        if not caller.may(needed):
            raise Forbidden(f"this token has no scope {needed!r}", fix="ask the operator for one that has")
        state(scope)["caller"] = caller
        await self._app(scope, receive, send)

    def _caller(self, scope: AsgiScope) -> Caller:
        if self._callers is None:
            self._require_this_machine(scope)
            return LOCAL
        address = (scope.get("client") or ("",))[0]
        token = _bearer(scope)
        if token is None:
            token = cookies(scope).get(COOKIE)
            if token is not None:
                _require_same_origin(scope)
        if token is None:
            raise Unauthenticated(
                "this needs a token", fix="send Authorization: Bearer TOKEN, or log in at /login"
            )
        if (bucket := self._wrong.get(address)) is not None and bucket.level() < 1:
            raise Busy("too many wrong tokens from this address", fix="wait a minute", retry_after=60)
        caller = self._callers.find(token)
        if caller is None:
            self._note_wrong(address)
            raise Unauthenticated("this token is not known", fix="ask the operator for a new one")
        return caller

    def _note_wrong(self, address: str) -> None:
        if len(self._wrong) >= MOST_ADDRESSES:
            self._wrong = {name: kept for name, kept in self._wrong.items() if not kept.full()}
        if len(self._wrong) < MOST_ADDRESSES or address in self._wrong:
            self._wrong.setdefault(address, Bucket(WRONG_PER_MINUTE)).take()

    @staticmethod
    def _require_this_machine(scope: AsgiScope) -> None:
        if not _loopback((scope.get("client") or ("",))[0]):
            raise Unauthenticated(
                "without a token file only this machine is let in",
                fix="the operator sets gateway.tokens in the configuration",
            )
        # A page elsewhere can point its own name at 127.0.0.1, or post a form there: both show in these headers.
        host = urlsplit(f"//{header(scope, 'host') or ''}").hostname or ""
        if not (host == "localhost" or _loopback(host)):
            raise Forbidden(
                f"the host {host!r} is not this machine", fix="use http://127.0.0.1 or a token file"
            )
        _require_same_origin(scope)


def _require_same_origin(scope: AsgiScope) -> None:
    """What a browser sends on its own (a cookie, an address) is only good for pages of ours."""
    origin = header(scope, "origin")
    if origin is not None and urlsplit(origin).netloc != (header(scope, "host") or ""):
        raise Forbidden(f"a page of {origin!r} may not call this", fix="use a bearer token")


def _bearer(scope: AsgiScope) -> str | None:
    kind, _, token = (header(scope, "authorization") or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _wants_page(scope: AsgiScope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and scope["path"].startswith(PAGES)
        and "text/html" in (header(scope, "accept") or "")
    )


async def _to_login(scope: AsgiScope, send: Send) -> None:
    location = f"/login?next={quote(scope['path'], safe='/')}".encode()
    await send(
        {
            "type": "http.response.start",
            "status": HTTPStatus.SEE_OTHER,
            "headers": [(b"location", location), (b"content-length", b"0")],
        }
    )
    await send({"type": "http.response.body", "body": b""})
