"""An HTTP proxy before the S3 test server that refuses, delays, loses, cuts or changes requests as a test asks.

Real processes speak to it as to S3; the test adds rules at any time and takes them away again:

    proxy.add(Answer(503), times=2)                            # the next two requests
    proxy.add(Lose(), methods=("PUT",), path="/claims/")       # every such write happens, and its writer never knows
    proxy.add(Refuse(), chance=0.05)                           # one request in twenty, by the proxy's seed
"""

from __future__ import annotations

import http.client
import random
import re
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from ifmdm_core.storage import S3Config


@dataclass(frozen=True)
class Refuse:
    """The connection closes before the request's body is read; nothing happens."""


@dataclass(frozen=True)
class Lose:
    """The request is carried out; the connection closes without a reply."""


@dataclass(frozen=True)
class Delay:
    """The request waits before it is carried out, whether or not anybody still waits for the reply."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """An error is answered; nothing happens."""

    status: int
    code: str = "SlowDown"


@dataclass(frozen=True)
class Strip:
    """The request is carried out without its conditions, as by a store that does not know them."""


@dataclass(frozen=True)
class Cut:
    """The reply breaks off after so many bytes of its body."""

    after: int


@dataclass(frozen=True)
class Before:
    """Something else happens just before the request is carried out."""

    act: Callable[[], object]


Fault = Refuse | Lose | Delay | Answer | Strip | Cut | Before


@dataclass
class Rule:
    """What happens to which requests. A rule that has been used up does nothing any more."""

    fault: Fault
    times: int | None = None
    """uses left; None: without end"""
    methods: tuple[str, ...] = ()
    """HTTP methods it is for; none: all"""
    path: str = ""
    """regular expression that is searched for in the request's path and query"""
    chance: float = 1.0
    """of happening to a request that it is for"""


class FaultProxy:
    """Of the rules that match a request the earliest is used.

    Attributes:
        config: settings that go through the proxy.
        seen: (method, path) of all requests, those that met a fault too.
    """

    def __init__(self, endpoint: str, config: S3Config, seed: int = 0) -> None:
        self.seen: list[tuple[str, str]] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._server = _Server(self, urlsplit(endpoint).netloc)
        port = self._server.server_address[1]
        self.config = config.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"})

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        fault: Fault,
        times: int | None = None,
        methods: tuple[str, ...] = (),
        path: str = "",
        chance: float = 1.0,
    ) -> Rule:
        """From now on `fault` happens; what is given back counts its uses down in `times`."""
        rule = Rule(fault, times, methods, path, chance)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """From now on every request passes."""
        with self._lock:
            self._rules.clear()

    def fault(self, method: str, path: str) -> Fault | None:
        """What happens to this request; None: it passes."""
        with self._lock:
            self.seen.append((method, path))
            for rule in self._rules:
                if rule.times == 0 or (rule.methods and method not in rule.methods):
                    continue
                if not re.search(rule.path, path) or self._random.random() >= rule.chance:
                    continue
                if rule.times is not None:
                    rule.times -= 1
                return rule.fault
            return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy, target: str) -> None:
        self.proxy, self.target = proxy, target
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to the store behind, kept as long."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def forward(self) -> None:
        fault = self.server.proxy.fault(self.command, self.path)
        if isinstance(fault, Refuse):
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if isinstance(fault, Answer):
            data = f"<Error><Code>{fault.code}</Code><Message>{fault.status}</Message></Error>".encode()
            self._reply(fault.status, [("Content-Type", "application/xml")], data)
            return
        if isinstance(fault, Delay):
            time.sleep(fault.seconds)
        elif isinstance(fault, Before):
            fault.act()
        dropped = _PER_HOP | (_CONDITIONS if isinstance(fault, Strip) else set())
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        there = self._there()
        there.request(self.command, self.path, body or None, headers)
        reply = there.getresponse()
        data = reply.read()
        if isinstance(fault, Lose):
            self.close_connection = True
            return
        kept = [(name, value) for name, value in reply.getheaders() if name.lower() not in _PER_HOP]
        if self.command == "HEAD":
            kept.append(("Content-Length", reply.getheader("Content-Length", "0")))
        self._reply(reply.status, kept, data, fault.after if isinstance(fault, Cut) else None)

    def _there(self) -> http.client.HTTPConnection:
        """The connection to the store, a new one where the store has closed the old."""
        old = self._kept
        if old is not None and (old.sock is None or select.select([old.sock], [], [], 0)[0]):
            old.close()
            old = None
        self._kept = old or http.client.HTTPConnection(self.server.target, timeout=60)
        return self._kept

    def _reply(
        self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None
    ) -> None:
        self.send_response_only(status)  # the store's own Date is the clock that ages are told by
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        self.close_connection = self.close_connection or cut is not None

    def setup(self) -> None:
        super().setup()
        self._kept: http.client.HTTPConnection | None = None

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client has gone: killed, or tired of waiting
            self.close_connection = True

    def finish(self) -> None:
        if self._kept is not None:
            self._kept.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward


_PER_HOP = {"content-length", "transfer-encoding", "connection", "keep-alive", "expect"}
_CONDITIONS = {"if-match", "if-none-match"}
