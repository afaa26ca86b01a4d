"""`ifmdm up && ifmdm down`, over and over: no process, no listening port, no temporary file is left, and data stay.

python -m tests.crash.stack_cycles --cycles 20 --log docs/chaos-stack.log

Every third cycle kills Ray's head with `kill -9` while everything runs: `status` says so, and in turns `down` ends what
is left, or `up` brings back what is missing and `down` ends that. One has its bucket in memory. With --demo the first
one also goes through `ifmdm demo` and `ifmdm demo --data`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from infra.stack.ports import is_free
from infra.stack.processes import marked
from tests.crash.reporting import commit

CYCLES = ("plain", "head killed, down", "s3", "plain", "head killed, up", "plain")
"""In turns."""
SHARED = ("/tmp", "/dev/shm")
"""Where temporary files could be left beside the folder that TMPDIR names."""
LIGHT = ("--set", "gateway.studio=false")


@dataclass(frozen=True)
class Seen:
    """One cycle that left nothing."""

    cycle: int
    kind: str
    up_s: float
    again_s: float
    """`ifmdm up` while all of it runs."""
    down_s: float
    processes: int
    """That the stack had."""
    ports: int
    """That it listened on."""
    memory_gb: float


class Cycles:
    """Cycles of one stack in `room`, whose temporary folder nobody else uses."""

    def __init__(self, room: Path, options: Sequence[str] = (), alone: bool = False) -> None:
        """Args: options: of `ifmdm up`. alone: nobody else makes files in `SHARED` meanwhile, so they are looked at."""
        self.home, self.options, self._alone = room / "home", list(options), alone
        self.temp = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: sockets go there
        self._environment = {**os.environ, "TMPDIR": str(self.temp), "IFMDM_HOME": str(self.home)}

    def run(self, cycle: int, kind: str, meanwhile: Callable[[], object] = lambda: None) -> Seen:
        """One cycle. Raises AssertionError with what it left, or what did not work.

        Args:
            meanwhile: done while all of it runs.
        """
        shared = self._shared()
        up_s = self._timed("up", *self.options, *(["--s3"] if kind == "s3" else []))
        again_s = self._timed("up")
        seen = self._status(0)
        ids = self._record()
        mine = marked(ids["id"])
        ports = _listening(mine)
        sessions = {os.getsid(process.pid) for process in mine}
        if kind == "s3":
            self._bucket_answers()
        meanwhile()
        if kind.startswith("head killed"):
            os.kill(ids["services"]["ray"]["pid"], signal.SIGKILL)
            broken = self._status(75)
            assert broken["services"][0]["health"] == "dead", broken["services"][0]
        if kind == "head killed, up":
            self._timed("up")
            self._status(0)
            ids = self._record()
            mine = marked(ids["id"])
            ports |= _listening(mine)
            sessions |= {os.getsid(process.pid) for process in mine}
        down_s = self._timed("down")
        self._nothing_left(ids["id"], sessions, ports, shared)
        memory = sum(row["memory_mb"] or 0 for row in seen["services"] if row["pid"]) / 1000
        return Seen(cycle, kind, up_s, again_s, down_s, len(mine), len(ports), round(memory, 2))

    def ifmdm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on this stack. Raises AssertionError where it fails."""
        done = self._ifmdm(*words)
        assert done.returncode == 0, f"ifmdm {' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def close(self) -> None:
        """Whatever happened."""
        self._ifmdm("down")
        self.temp.rmdir()

    def _nothing_left(self, stack: str, sessions: set[int], ports: set[int], shared: set[str]) -> None:
        assert (left := [process.cmdline() for process in marked(stack)]) == [], f"processes: {left}"
        assert (left := list(_members(sessions))) == [], f"processes of its sessions: {left}"
        assert (left := [port for port in ports if not is_free(port)]) == [], f"ports: {left}"
        assert (left := [path.name for path in self.temp.iterdir()]) == [], f"temporary files: {left}"
        if self._alone:
            assert (left := sorted(self._shared() - shared)) == [], f"temporary files: {left}"
        assert not (self.home / "stack.json").exists()
        assert (self.home / "mlflow" / "mlflow.db").exists(), "data are gone"
        self._status(3)
        self._timed("down")  # again, with nothing to do

    def _shared(self) -> set[str]:
        return {entry.path for folder in SHARED for entry in os.scandir(folder)}

    def _record(self) -> dict:
        return json.loads((self.home / "stack.json").read_text())

    def _status(self, code: int) -> dict:
        done = self._ifmdm("status", "--json")
        assert done.returncode == code, (
            f"ifmdm status: {done.returncode}, not {code}: {done.stdout}{done.stderr}"
        )
        return json.loads(done.stdout)

    def _timed(self, *words: str) -> float:
        began = time.monotonic()
        self.ifmdm(*words)
        return round(time.monotonic() - began, 1)

    def _bucket_answers(self) -> None:
        """A command of a user's, with the variables that `up` prints."""
        variables = json.loads(self.ifmdm("up", "--json").stdout)["environment"]
        done = self._ifmdm("jobs", "ls", "--json", **variables)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["jobs"] == []

    def _ifmdm(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infra.cli", *words],
            cwd=self.home.parent, env={**self._environment, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip


def _demo(cycles: Cycles) -> None:
    cycles.ifmdm("demo")
    cycles.ifmdm("demo", "--data")


def _members(sessions: set[int]) -> Iterator[list[str]]:
    """Command lines of the processes in these sessions that are not zombies."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                yield process.cmdline()
        except (psutil.Error, OSError):
            continue


def _listening(processes: list[psutil.Process]) -> set[int]:
    found = set()
    for process in processes:
        try:
            found |= {
                connection.laddr.port
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--log", type=Path, help="write the report there as well")
    parser.add_argument("--alone", action="store_true", help="nobody else uses the shared temporary folders")
    parser.add_argument(
        "--demo", action="store_true", help="also the demo, with its training, in the first cycle"
    )
    given = parser.parse_args()
    lines = [f"{given.cycles} cycles, commit {commit()}, {platform.platform()}, {os.cpu_count()} cores"]
    print(lines[0], flush=True)
    with tempfile.TemporaryDirectory(prefix="ifmdm-cycles-") as room:
        cycles = Cycles(Path(room), alone=given.alone)
        try:
            for number in range(given.cycles):
                demo = given.demo and number == 0
                seen = cycles.run(
                    number, CYCLES[number % len(CYCLES)], partial(_demo, cycles) if demo else lambda: None
                )
                lines.append(
                    " ".join(f"{name}={str(value).replace(' ', '-')}" for name, value in asdict(seen).items())
                )
                print(lines[-1], flush=True)
        finally:
            cycles.close()
    lines.append(f"{given.cycles} cycles, none left a process, a port or a temporary file")
    print(lines[-1])
    if given.log:
        given.log.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
