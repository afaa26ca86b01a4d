"""The stack's processes: started with a mark in their environment, found again by it, ended.

A child inherits the mark, wherever it is moved to: what is left when its parent was killed is found too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from infra.stack.state import Started

STACK, SERVICE = "IFMDM_STACK", "IFMDM_STACK_SERVICE"
"""Environment variables: the stack's id, and which service of it."""
KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}
"""Ray's processes retitle themselves, by default over the place where the system keeps their environment."""
CLOCK_S = 1.0
"""The system's idea of when a process began may move by as much when the clock is set."""
KILLED_S = 10.0
"""For the system to take away what was killed."""


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that Ctrl-C here does not reach it; the log before goes to `<log>.1`."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("wb") as file:
        return subprocess.Popen(
            command, env={**environment, **KEEP_ENVIRONMENT}, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            cwd=folder, start_new_session=True,
        )  # fmt: skip


def created(pid: int) -> float:
    """When a process began; 0 where there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def find(started: Started) -> psutil.Process | None:
    """The process that was started, if it runs; never another one that has got its number."""
    try:
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.created) <= CLOCK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def family(process: psutil.Process) -> list[psutil.Process]:
    """It and everything below it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked(stack: str, services: Iterable[str] | None = None) -> list[psutil.Process]:
    """Every process with the stack's mark, but this one. Args: services: only of these."""
    wanted = None if services is None else set(services)
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
        except (psutil.Error, OSError):  # gone, or another user's: not ours in either case
            continue
        if environment.get(STACK) == stack and (wanted is None or environment.get(SERVICE) in wanted):
            found.append(process)
    return found


def end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """SIGTERM, and after `grace_s` seconds SIGKILL; returns when they are gone."""
    asked = list(processes)
    for process in asked:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(asked, timeout=grace_s)
    kill(left)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL; returns when they are gone."""
    killed = list(processes)
    for process in killed:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(killed, timeout=KILLED_S)


def kill_marked(stack: str, services: Iterable[str] | None = None, grace_s: float = 0.0) -> int:
    """Ends whatever has the mark, also what it starts meanwhile; how many there were.

    Args:
        grace_s: seconds in which they may go on their own, as children do whose parent has just ended.
    """
    names = None if services is None else tuple(services)
    until = time.monotonic() + grace_s
    while (left := marked(stack, names)) and time.monotonic() < until:
        time.sleep(0.1)
    count = 0
    while left:
        count += len(left)
        kill(left)
        left = marked(stack, names)
    return count
