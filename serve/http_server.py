"""The HTTP server of one gateway replica: uvicorn on a socket of its own, hardened against slow and huge headers.

Not Ray Serve's proxy: that one reads answers as fast as they are made and uploads as fast as they come, into memory,
so a slow reader could not slow a render down and no limit of ours would bound an upload. Here TCP itself does.
Replicas on one machine share the port (SO_REUSEPORT); the kernel deals out connections.
"""

from __future__ import annotations

import asyncio
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ifmdm_core.errors import Unavailable
from serve.protection.asgi import ABORT, App, Receive, Scope, Send

HEADER_BYTES = 32 << 10
HEADER_S = 10.0
"""Seconds for the headers of a request to arrive."""
LINGER_S = 30.0
"""Seconds that a refused upload is read on (and thrown away), so that its sender gets to see the refusal."""
IDLE_S = 15
"""Seconds a connection is kept without a request."""


class HttpServer:
    """Serves an ASGI application until stopped; lives in the event loop that calls `start`."""

    def __init__(self, app: App, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]  # uvicorn's ASGI types are narrower than ours
            http=_Guarded,
            ws="auto",
            lifespan="on",
            log_config=None,
            access_log=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=IDLE_S,
            ws_max_size=1 << 20,
            server_header=False,
        )
        self._server, self._host, self._port = uvicorn.Server(config), host, port
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listens; the port (a free one where 0 was asked for).

        Raises Unavailable where the address cannot be had, or the application does not start.
        """
        self._socket = _listening(self._host, self._port)
        self._task = asyncio.create_task(self._server._serve([self._socket]))
        while not self._server.started:
            if self._task.done():
                error = None if self._task.cancelled() else self._task.exception()
                raise Unavailable("the gateway's application did not start") from error
            await asyncio.sleep(0.02)
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def running(self) -> bool:
        """Whether it still serves."""
        return self._task is not None and not self._task.done()

    async def stop(self, grace_s: float) -> None:
        """No new connections; answers under way have `grace_s` seconds to end, then they are cut off."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await self._task


class _Guarded(H11Protocol):
    """Uvicorn's protocol with deadlines for headers and for uploads that were refused, and a way to cut the line."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, ABORT: transport.abort}, receive, send)  # type: ignore[arg-type]

        self.app = app  # type: ignore[assignment]
        self._deadline(HEADER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._deadline(HEADER_S)  # a further request begins on this connection
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._deadline(None)  # a request is being answered: its body has limits of its own

    def on_response_complete(self) -> None:
        super().on_response_complete()
        refused = self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY
        self._deadline(LINGER_S if refused else None)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._deadline(None)
        super().handle_websocket_upgrade(event)

    def _deadline(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort) if seconds is not None else None


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Unavailable(f"cannot listen on {host}: {error}", fix="check gateway.host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}",
            fix="is another service there? choose gateway.port, or 0 for a free one",
        ) from None
    return listener
