"""An HTTP proxy before the S3 test server that answers 503, or cuts connections, as often as a test asks."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from ifmdm_core.storage import S3Config

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class FlakyS3:
    """Set `refuse`, `cut_after` and `cuts` at any time; each fault uses one up.

    Attributes:
        config: settings that go through the proxy.
        refuse: so many requests are answered 503 SlowDown.
        only: HTTP methods that faults happen to.
        cuts: so many downloads break after `cut_after` bytes of their body.
        seen: (method, path) of all requests, refused ones too.
    """

    def __init__(self, endpoint: str, config: S3Config) -> None:
        self.refuse = self.cuts = 0
        self.cut_after = 1000
        self.only: tuple[str, ...] = ("GET", "PUT", "HEAD", "POST", "DELETE")
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        proxy, target = self, urlsplit(endpoint).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                refuse, cut = proxy.passing(self.command, self.path)
                if refuse:
                    self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
                    return
                there = http.client.HTTPConnection(target, timeout=30)
                there.request(self.command, self.path, body, dict(self.headers))
                reply = there.getresponse()
                data = reply.read()
                headers = [(k, v) for k, v in reply.getheaders() if k.lower() not in _HOP_BY_HOP]
                if self.command == "HEAD":
                    headers.append(("Content-Length", reply.getheader("Content-Length", "0")))
                self._answer(reply.status, headers, data, proxy.cut_after if cut else None)

            def _answer(
                self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None
            ) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:cut])
                self.close_connection = self.close_connection or cut is not None

            def log_message(self, format: str, *args: object) -> None:
                pass

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.config = config.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"})

    def __enter__(self) -> FlakyS3:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def passing(self, method: str, path: str) -> tuple[bool, bool]:
        """Whether to refuse this request, and whether to cut its answer."""
        with self._lock:
            self.seen.append((method, path))
            if method not in self.only:
                return False, False
            if self.refuse:
                self.refuse -= 1
                return True, False
            if self.cuts and method == "GET":
                self.cuts -= 1
                return False, True
            return False, False


_HOP_BY_HOP = {"content-length", "transfer-encoding", "connection", "server", "date"}
