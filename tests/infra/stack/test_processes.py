"""Small real processes: found by their mark, ended, and nobody else's touched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.stack.ending import end_stack
from infra.stack.home import Home
from infra.stack.processes import SERVICE, STACK, created, find, kill_marked, marked, spawn
from infra.stack.state import Settings, StackState, Started

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable, "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]  # fmt: skip
PARENT = [
    sys.executable, "-c",
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "print('up', flush=True); time.sleep(600)",
]  # fmt: skip


class Room:
    """A stack of processes that do nothing."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.make()
        (folder / "temp").mkdir()
        self.state = StackState(id=uuid.uuid4().hex, temp=str(folder / "temp"), settings=Settings())

    def start(self, service: str, command: list[str] = SLEEP) -> psutil.Process:
        environment = {**os.environ, STACK: self.state.id, SERVICE: service}
        process = spawn(command, self.home.log(service), environment, self.home.folder)
        while "up" not in self.home.log(service).read_text():
            time.sleep(0.02)
        started = Started(pid=process.pid, created=created(process.pid), address="")
        self.state.services[service] = started
        self.home.write(self.state)
        return psutil.Process(process.pid)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    kill_marked(made.state.id)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not ours."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def test_all_of_a_stack_is_ended_and_nothing_else(room: Room, stranger: subprocess.Popen[bytes]) -> None:
    processes = [room.start("mlflow"), room.start("ray", PARENT), room.start("serve")]
    assert len(marked(room.state.id)) == 4
    assert len(marked(room.state.id, ["ray"])) == 2
    said: list[str] = []
    assert end_stack(room.home, room.state, said.append) == 0
    assert not any(process.is_running() for process in processes)
    assert marked(room.state.id) == []
    assert stranger.poll() is None
    assert said[-1] == "ray"  # others need it
    assert room.home.read() is None
    assert not Path(room.state.temp).exists()


def test_ending_twice_does_no_harm(room: Room) -> None:
    room.start("mlflow")
    end_stack(room.home, room.state)
    assert end_stack(room.home, room.state) == 0


def test_children_of_a_killed_parent_are_found_by_their_mark(room: Room) -> None:
    parent = room.start("ray", PARENT)
    parent.kill()
    parent.wait()
    (child,) = marked(room.state.id)
    end_stack(room.home, room.state)
    assert not child.is_running()


def test_a_process_that_nobody_recorded_is_ended(room: Room) -> None:
    room.start("mlflow")
    room.state.services.clear()  # `up` was killed before it wrote the number down
    end_stack(room.home, room.state)
    assert marked(room.state.id) == []


def test_a_number_that_another_program_has_by_now_is_left_alone(
    room: Room, stranger: subprocess.Popen[bytes]
) -> None:
    room.state.services["mlflow"] = Started(pid=stranger.pid, created=time.time() - 86_400, address="")
    assert find(room.state.services["mlflow"]) is None
    end_stack(room.home, room.state)
    assert stranger.poll() is None


def test_what_does_not_end_when_asked_is_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.stack import ending

    monkeypatch.setitem(ending.GRACE_S, "mlflow", 0.3)
    process = room.start("mlflow", STUBBORN)
    end_stack(room.home, room.state)
    assert not process.is_running()


def test_the_log_before_is_kept(room: Room) -> None:
    room.start("mlflow")
    room.home.log("mlflow").write_text("the first: up")
    room.start("mlflow")
    assert (room.home.logs / "mlflow.log.1").read_text() == "the first: up"
    assert room.home.log("mlflow").read_text().strip() == "up"
