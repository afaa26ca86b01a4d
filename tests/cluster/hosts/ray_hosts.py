"""Ray on several hosts: a head that stays, and workers that are started again whenever they end, as systemd would."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.cluster.hosts.network import ROOT, Network
from tests.crash.job_room import until
from tests.crash.ray_nodes import RAY

PORT = 6379
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
"""A host that does not answer counts as lost after some 15 s; Ray's own figures (3000, 10000, 5) make it 65 s."""
FENCE = {"RAY_gcs_rpc_server_reconnect_timeout_s": "20"}
"""A worker host that does not reach the head for so long ends its own Ray (60 by default)."""
PORTS = {
    "node-manager-port": 6380, "object-manager-port": 6381, "runtime-env-agent-port": 6382,
    "dashboard-agent-grpc-port": 6383, "dashboard-agent-listen-port": 6384, "metrics-export-port": 6385,
    "min-worker-port": 10100, "max-worker-port": 10999,
}  # fmt: skip
"""Of every node. A node that finds free ones itself waits for some of them only 15 s, short on a busy machine."""
AGAIN_S = 2.0
"""Pause before a node that ended is started again."""
START_S = 400.0
"""Longest start; no figure of its speed, machines may be busy."""


class RayHosts:
    """A head on host 1 and a worker on each of the others, of one CPU each; a context manager.

    Args:
        environment: of every node, beside what Ray needs.
    """

    def __init__(
        self, network: Network, folder: Path, workers: tuple[int, ...], environment: dict[str, str]
    ) -> None:
        self._network, self._folder, self.workers = network, folder, workers
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **environment, **HEALTH, **FENCE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }  # fmt: skip
        self.address = f"{network.address(1)}:{PORT}"
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._starts = 0
        self._alive: set[str] = set()
        self._over = threading.Event()

    def __enter__(self) -> RayHosts:
        self._start_head()
        for host in self.workers:
            self._join(host)
        self._observer = subprocess.Popen(
            self._network.on(1, sys.executable, "-m", "tests.cluster.hosts.observer", self.address),
            cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._observe, name="observer", daemon=True).start()
        threading.Thread(target=self._supervise, name="supervisor", daemon=True).start()
        self.wait({1, *self.workers}, START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._observer.kill()
        self._observer.wait()
        for node in self._nodes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)  # the network's guard ends what they leave
            node.wait()

    def alive(self, host: int) -> bool:
        """Whether the head counts it as alive."""
        return self._network.address(host) in self._alive

    def wait(self, hosts: set[int], seconds: float) -> None:
        """Until the head counts exactly these as alive."""
        wanted = {self._network.address(host) for host in hosts}
        until(lambda: self._alive == wanted, f"alive are {wanted}, not {self._alive}", seconds)

    def _start_head(self) -> None:
        """Ray gives its processes 30 s, which a busy machine may exceed: it is tried again, as workers are."""
        log = self._folder / "ray-1.log"
        until(lambda: self._runs_or_again(log), "the head runs", START_S, lambda: log.read_text()[-1500:])

    def _runs_or_again(self, log: Path) -> bool:
        node = self._nodes.get(1)
        if node is not None and node.poll() is None:
            return "Ray runtime started" in log.read_text(errors="replace")
        self._clear(1)
        self._start(1, "--head", f"--port={PORT}", "--include-dashboard=false")
        return False

    def _clear(self, host: int) -> None:
        """Ends what a node left, as a unit of systemd ends with all of its processes."""
        for pid in self._network.pids(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _join(self, host: int) -> None:
        self._start(host, f"--address={self.address}")

    def _start(self, host: int, *options: str) -> None:
        self._starts += 1
        folder = self._folder / f"h{host}-{self._starts}"
        folder.mkdir()
        with (self._folder / f"ray-{host}.log").open("ab") as log:
            self._nodes[host] = subprocess.Popen(
                self._network.on(
                    host, *RAY, "start", "--block", *options, f"--node-ip-address={self._network.address(host)}",
                    *(f"--{name}={port}" for name, port in PORTS.items()), "--num-cpus=1", f"--temp-dir={folder}",
                    "--object-store-memory=80000000", "--disable-usage-stats",
                ),
                env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def _observe(self) -> None:
        assert self._observer.stdout is not None
        for line in self._observer.stdout:
            if line.startswith("["):  # Ray says things too
                self._alive = set(json.loads(line))

    def _supervise(self) -> None:
        while not self._over.wait(AGAIN_S):
            for host in self.workers:
                if self._nodes[host].poll() is not None:
                    self._clear(host)
                    self._join(host)
