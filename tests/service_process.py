"""The service as a user starts it, `ifmdm serve`, in processes of its own: for benchmarks and whole-system tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx
import psutil

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServiceProcess:
    """`ifmdm serve CONFIG --set …` with its data and log in `folder`, on a port of its own."""

    def __init__(
        self,
        folder: Path,
        *settings: str,
        config: Path = ROOT / "configs/serve/demo.yaml",
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`settings` are `a.b=c`, as for --set; `env` adds to this process's variables, `options` to the command."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.log = free_port(), folder / "serve.log"
        self.url = f"http://127.0.0.1:{self.port}"
        chosen = (f"root={folder / 'root'}", f"gateway.port={self.port}", *settings)
        self.command = [sys.executable, "-m", "infra.cli", "serve", str(config), *options]
        self.command += [word for setting in chosen for word in ("--set", setting)]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.left_over: list[int] = []
        """Pids that outlived the command after `stop`; they have been killed."""

    def start(self, wait_s: float = 300) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=ROOT, env=self._env, start_new_session=True
            )
        self.wait_ready(wait_s)

    def wait_ready(self, wait_s: float = 300) -> None:
        """Until /readyz says so. Raises AssertionError with the end of the log when it ended or takes longer."""
        assert self._process is not None
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"the service ended:\n{self.last_words()}"
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        raise AssertionError(f"the service was not ready after {wait_s} s:\n{self.last_words()}")

    def stop(self, wait_s: float = 90) -> int:
        """Ctrl-C; its exit code. What is left after `wait_s` is killed."""
        if self._process is None:
            return 0
        members = self._members()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
            self._process.kill()
            self._process.wait()
        _, left = psutil.wait_procs(members, timeout=15)
        self.left_over = [process.pid for process in left]
        for process in left:
            process.kill()
        self._process = None
        return code

    def replicas(self, part: str) -> list[int]:
        """Pids of the replicas of a stage, or of the gateway, that live."""
        roles = {process.pid: _role(process) for process in self._members()}
        return [
            pid
            for pid, role in roles.items()
            if role.startswith("ServeReplica") and role.endswith(f":{part}")
        ]

    def memory_mb(self) -> dict[str, float]:
        """MB that belong to its processes alone (USS), by what they are; processes of one kind are added up."""
        found: dict[str, float] = defaultdict(float)
        for process in self._members():
            try:
                found[_role(process)] += process.memory_full_info().uss / 1e6
            except psutil.Error:
                continue  # it ended meanwhile
        return dict(found)

    def last_words(self, characters: int = 3_000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def _members(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        try:
            head = psutil.Process(self._process.pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def __enter__(self) -> ServiceProcess:
        try:
            self.start()
        except BaseException:
            self.stop(5)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _role(process: psutil.Process) -> str:
    """What a process of Ray calls itself (ray::ServeReplica:app:stage), else its program's name."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return "ended"
    title = words[0] if words else ""
    if title.startswith("ray::"):
        return title.removeprefix("ray::").split()[0]
    return Path(title).name or "ended"
