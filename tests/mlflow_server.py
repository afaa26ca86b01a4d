"""A real MLflow server that a test can kill, start again and look into, and a proxy that loses its answers."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType


class MlflowServer:
    """`mlflow server` on one port and one SQLite file in `folder`, however often it is killed.

    Args:
        host: address that it listens on.
        before: words before its command line, such as those that run it in another network.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", before: Sequence[str] = ()) -> None:
        self.folder, self.database = folder, folder / "mlflow.db"
        self._host, self._before = host, before
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://{host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        """Start it, if it does not run."""
        if self._process is None:
            command = [
                *self._before, sys.executable, "-m", "mlflow", "server", "--host", self._host, "--port", str(self.port),
                "--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}",
                "--artifacts-destination", str(self.folder / "artifacts"),
            ]  # fmt: skip
            env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "OMP_NUM_THREADS": "1"}
            env.pop("MLFLOW_TRACKING_URI", None)
            log = (self.folder / "server.log").open("ab")
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self._wait()

    def kill(self) -> None:
        """kill -9 of all its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def rows(self, query: str, *values: object) -> list[tuple]:
        """Rows of the database itself, past the server."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
            return connection.execute(query, values).fetchall()

    def runs(self, train_id: str) -> list[str]:
        """Ids of the live runs of a training."""
        return [
            row[0]
            for row in self.rows(
                "select r.run_uuid from runs r join tags t on t.run_uuid = r.run_uuid "
                "where t.key = 'ifmdm.train_id' and t.value = ? and r.lifecycle_stage = 'active'",
                train_id,
            )
        ]

    def steps(self, run_id: str, prefix: str = "train/") -> dict[str, Counter[int]]:
        """How often each step of each figure is in the database."""
        found: dict[str, Counter[int]] = {}
        for key, step in self.rows(
            "select key, step from metrics where run_uuid = ? and key like ?", run_id, f"{prefix}%"
        ):
            found.setdefault(key, Counter())[step] += 1
        return found

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            try:
                connection = http.client.HTTPConnection(self._host, self.port, timeout=2)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the MLflow server did not start")


class LossyProxy:
    """Passes requests on, but loses the answers of the next `lose` POSTs to `only` that have `within` in their body."""

    def __init__(self, server: MlflowServer) -> None:
        self.lose, self.only, self.within = 0, "", b""
        self.lost: list[str] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                there = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                headers = {**dict(self.headers), "Host": f"127.0.0.1:{server.port}"}
                there.request(self.command, self.path, body, headers)
                reply = there.getresponse()
                data = reply.read()
                if self.command == "POST" and proxy._loses(self.path, body):
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.getheader("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _loses(self, path: str, body: bytes) -> bool:
        with self._lock:
            if self.lose and self.only in path and self.within in body:
                self.lose -= 1
                self.lost.append(path)
                return True
            return False

    def __enter__(self) -> LossyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
