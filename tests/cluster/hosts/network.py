"""Hosts with addresses of their own on one machine: network namespaces on a switch whose links can be cut.

Everything hangs on the namespaces: deleting them takes links and bridge along. A guard, a process of its own, does
so when its input ends, which it does however the owner of the network ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
PREFIX = "ifmdm-hosts"


class Network:
    """Hosts 1 to `count`, each with one interface `eth0`; this process's own namespace has an address there too.

    A context manager.

    Args:
        folder: of the run; removed with the network.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self._owner = owner_of(os.getpid())
        self._count, self._folder = count, folder
        self._net = _free_net()

    def __enter__(self) -> Network:
        for owner in {namespace.split(".")[1] for namespace in _namespaces()}:
            if owner != owner_of(int(owner.split("-")[0])):
                remove(owner)
        self._guard = subprocess.Popen(
            [sys.executable, "-m", __name__, self._owner, str(self._folder)],
            cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            self._make()
        except BaseException:
            self.__exit__()  # a `with` block that is not entered is not left either
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.communicate(timeout=120)

    def address(self, host: int) -> str:
        """IPv4 address of a host."""
        return f"{self._net}.{host}"

    def on(self, host: int, *command: str) -> list[str]:
        """The command line that runs `command` there."""
        return ["ip", "netns", "exec", self._named(host), *command]

    def pids(self, host: int) -> list[int]:
        """What runs there."""
        return _pids(self._named(host))

    def cut(self, host: int) -> None:
        """Pull its cable: nothing goes in or out, and nobody is told."""
        _ip("-n", self._named(0), "link", "set", f"port{host}", "down")

    def heal(self, host: int) -> None:
        """Plug it in again."""
        _ip("-n", self._named(0), "link", "set", f"port{host}", "up")

    def _named(self, host: int) -> str:
        return f"{PREFIX}.{self._owner}.{host}"

    def _make(self) -> None:
        switch = self._named(0)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge0", "up")
        here = _link_here(self._owner)
        _ip("link", "add", here, "type", "veth", "peer", "name", "up0", "netns", switch)
        _ip("-n", switch, "link", "set", "up0", "master", "bridge0", "up")
        _ip("address", "add", f"{self._net}.254/24", "dev", here)
        _ip("link", "set", here, "up")
        for host in range(1, self._count + 1):
            name, port = self._named(host), f"port{host}"
            _ip("netns", "add", name)
            _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", switch, "link", "set", port, "master", "bridge0", "up")
            _ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
            # Ray finds a machine's own address by asking which way it would go to a distant one.
            _ip("-n", name, "route", "add", "default", "via", f"{self._net}.254")


def why_not() -> str | None:
    """Why networks cannot be made here; None where they can."""
    if shutil.which("ip") is None:
        return "needs the program ip (package iproute2)"
    name = f"{PREFIX}-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    try:
        for command in (
            ["ip", "netns", "exec", name, "true"],
            ["ip", "-n", name, "link", "add", "bridge0", "type", "bridge"],
            ["ip", "-n", name, "link", "add", "one", "type", "veth", "peer", "name", "two"],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                return f"{' '.join(command)}: {done.stderr.strip()}"
    finally:
        _ip("netns", "delete", name)
    return None


def owner_of(pid: int) -> str:
    """A process, told from a later one with the same number by when it started; empty when it is gone."""
    with contextlib.suppress(OSError):
        return f"{pid}-{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    return ""


def remove(owner: str) -> None:
    """Ends every process in an owner's namespaces and deletes them, with their links."""
    mine = [name for name in _namespaces() if name.split(".")[1] == owner]
    end = time.monotonic() + 60
    while (pids := [pid for name in mine for pid in _pids(name)]) and time.monotonic() < end:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    for name in mine:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)  # its own guard may be at it too
    while Path("/sys/class/net", _link_here(owner)).exists() and time.monotonic() < end:
        time.sleep(0.1)  # the kernel takes a moment


def _free_net() -> str:
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    number = os.getpid() % 250
    while f"10.213.{number}." in routes:
        number = (number + 1) % 250
    return f"10.213.{number}"


def _link_here(owner: str) -> str:
    return f"ifm{owner.split('-')[0]}"  # names of interfaces have at most 15 letters


def _namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(f"{PREFIX}.")]


def _pids(name: str) -> list[int]:
    return [
        int(pid)
        for pid in subprocess.run(
            ["ip", "netns", "pids", name], capture_output=True, text=True
        ).stdout.split()
    ]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


if __name__ == "__main__":
    sys.stdin.read()
    remove(sys.argv[1])
    shutil.rmtree(sys.argv[2], ignore_errors=True)
