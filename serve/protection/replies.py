"""The outermost layer: an id for every request, and every error as one JSON record without traces."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable

from ifmdm_core.errors import BadInput, Busy, IfmdmError
from serve import logs
from serve.protection.asgi import ABORT, App, Message, Receive, Scope, Send, header

_log = logging.getLogger(__name__)

REASONS = {401: "token", 403: "forbidden", 408: "slow", 413: "size", 429: "busy", 503: "unavailable"}
"""Word for the metrics of refusals, by HTTP status; other refusals are `input`."""

HEADER_BYTES = 16 << 10
"""Of a request's address and headers together."""


class LargeHeaders(BadInput):
    """Headers beyond the limit."""

    http_status = 431


class Replies:
    """Gives each request an id (a fit `X-Request-Id` is kept), logs how it went, and answers for raised errors.

    Args:
        rejected: told one word for each refused request.
    """

    def __init__(self, app: App, rejected: Callable[[str], None] = lambda reason: None) -> None:
        self._app, self._rejected = app, rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        identifier = logs.usable_request_id(header(scope, "x-request-id"))
        began, status, sent, whole = time.monotonic(), 0, 0, False

        async def sending(message: Message) -> None:
            nonlocal status, sent, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                message = {**message, "headers": [*kept, (b"x-request-id", identifier.encode())]}
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            await send(message)

        with logs.request(identifier):
            try:
                _require_small(scope)
                await self._app(scope, receive, sending)
            except Exception as error:
                if status == 0:
                    await self._answer(scope, receive, sending, error)
                else:
                    _report(error)
                    if (
                        not whole
                    ):  # the status has gone out: only a broken connection says that this is not all
                        scope.get(ABORT, lambda: None)()
            finally:
                if status >= 400:
                    self._rejected(REASONS.get(status, "input" if status < 500 else "fault"))
                _log.info(
                    "%s %s %s",
                    scope.get("method", "WEBSOCKET"),
                    scope["path"],
                    status or "closed",
                    extra={"bytes": sent, "seconds": round(time.monotonic() - began, 3)},
                )

    async def _answer(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        _report(error)
        if scope["type"] == "websocket":
            await receive()  # the handshake; closing before accepting answers it with 403
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            return
        status, headers, body = problem(error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def problem(error: BaseException) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and JSON body that tell a client of an error: {"error", "fix", "request_id"}.

    What is no IfmdmError, or is a fault of ours, says nothing but the request's id.
    """
    known = isinstance(error, IfmdmError) and error.http_status != 500
    if isinstance(error, IfmdmError) and known:
        status, what, fix = error.http_status, error.what, error.fix
    else:
        status, what, fix = 500, "internal error", "tell the operator the request_id"
    body = json.dumps({"error": what, "fix": fix, "request_id": logs.request_id()}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if isinstance(error, Busy):
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return status, headers, body


def _require_small(scope: Scope) -> None:
    size = sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope.get("raw_path") or b"")
    if size + len(scope["query_string"]) > HEADER_BYTES:
        raise LargeHeaders(f"the request's headers are larger than {HEADER_BYTES} bytes", fix="send fewer")


def _report(error: BaseException) -> None:
    if isinstance(error, IfmdmError) and error.http_status != 500:
        _log.info("refused: %s", error)
    else:
        _log.error("a fault of ours", exc_info=error)
