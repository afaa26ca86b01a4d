"""moto's S3 over HTTP, with the one property of S3 that moto lacks: a condition and its write are one step."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any


class S3Server:
    """An S3 server in threads of this process; its requests arrive together and are carried out one by one.

    moto looks whether a key is there and writes it afterwards, so of racing creators two may win.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(
            logging.ERROR
        )  # else a record of each request is kept by pytest
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(host, 0, _OneByOne(app), True, request_handler=MotoRequestHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.endpoint = f"http://{host}:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _OneByOne:
    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if length := environ.get("CONTENT_LENGTH"):
            # Before the lock: a client that is stopped while it sends must not hold up the others.
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(length)))
        with self._lock:
            return list(self._app(environ, start_response))
