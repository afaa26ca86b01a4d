"""A Ray cluster of several nodes on this machine, each a process tree of its own that can be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


class RayNodes:
    """A head and `workers` more nodes of one CPU each, with separate temporary folders; a context manager.

    `environment` is what a driver needs to join at `address`.
    """

    def __init__(self, workers: int = 2, head_cpus: int = 1, dashboard: bool = False) -> None:
        self._workers, self._head_cpus, self._dashboard = workers, head_cpus, dashboard
        self._room = tempfile.TemporaryDirectory(prefix="ifmdm-ray-", ignore_cleanup_errors=True)
        self.environment = {
            **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }  # fmt: skip
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def __enter__(self) -> RayNodes:
        port = _free_port()
        self.address = f"{_own_address()}:{port}"
        head = [
            "start", "--head", f"--port={port}", f"--num-cpus={self._head_cpus}",
            f"--ray-client-server-port={_free_port()}",
            f"--include-dashboard={str(self._dashboard).lower()}", f"--dashboard-port={_free_port()}",
        ]  # fmt: skip
        try:
            self._start(head)
            for _ in range(self._workers):
                self.add()
        except BaseException:
            self.__exit__()  # a `with` block that is not entered is not left either
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            kill_tree(node.pid)
            node.wait()
        self._room.cleanup()

    def add(self) -> None:
        """One more node of one CPU."""
        self._start(["start", f"--address={self.address}", "--num-cpus=1"])

    def kill(self, number: int) -> None:
        """`kill -9` of everything that a node runs (0 is the head)."""
        kill_tree(self.nodes[number].pid)
        self.nodes[number].wait()

    def wait(self, count: int, seconds: float = 120.0) -> None:
        """Until the head counts `count` nodes as alive."""
        code = (
            "import ray, time\n"
            f"ray.init({self.address!r}, log_to_driver=False, logging_level='ERROR')\n"
            f"while sum(n['Alive'] for n in ray.nodes()) != {count}: time.sleep(0.3)\n"
        )
        subprocess.run([sys.executable, "-c", code], env=self.environment, timeout=seconds, check=True)

    def _start(self, arguments: list[str], seconds: float = 150.0) -> None:
        """Start a node and wait until it runs; on a busy machine Ray sometimes gives up starting one."""
        for attempt in range(3):
            folder = Path(self._room.name) / f"n{len(self.nodes)}-{attempt}"
            folder.mkdir()
            log = folder / "log"
            with log.open("wb") as file:
                node = subprocess.Popen(
                    [*RAY, *arguments, "--block", f"--temp-dir={folder}", "--object-store-memory=80000000",
                     "--disable-usage-stats"],
                    env=self.environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            end = time.monotonic() + seconds
            while node.poll() is None and time.monotonic() < end:
                if "Ray runtime started" in log.read_text(errors="replace"):
                    self.nodes.append(node)
                    return
                time.sleep(0.1)
            kill_tree(node.pid)
        raise AssertionError(f"a node does not start: {log.read_text(errors='replace')[-800:]}")


def descendants(pid: int) -> list[int]:
    """The process and everything below it, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def kill_tree(pid: int) -> None:
    """`kill -9` of a process and everything below it, all at once."""
    for one in descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def command_of(pid: int) -> str:
    """A process's command line; empty when it is gone. Ray names its actors there."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _own_address() -> str:
    """The address that Ray gives this machine: loopback is not accepted for nodes."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())
