"""`ifmdm up` where it cannot go on: what is said, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.stack.processes import STACK


class Room:
    """A folder for a stack, with a temporary folder that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self.home, self.temp = folder / "home", Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
        self.environment = {**os.environ, "IFMDM_HOME": str(self.home), "TMPDIR": str(self.temp)}

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", *words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str) -> tuple[int, str]:
        process = self.begin(*words)
        out, err = process.communicate()
        return process.returncode, out + err

    def nothing_is_left(self) -> None:
        assert not (self.home / "stack.json").exists()
        assert list(self.temp.iterdir()) == []
        for process in psutil.process_iter():
            try:
                mine = STACK in (environment := process.environ()) and environment["IFMDM_HOME"] == str(
                    self.home
                )
            except (psutil.Error, OSError, KeyError):
                continue
            assert not mine, process.cmdline()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.run("down")
    made.temp.rmdir()


def test_a_service_that_does_not_start_ends_the_others_and_shows_its_log(room: Room) -> None:
    (room.home / "mlflow").mkdir(parents=True)
    (room.home / "mlflow" / "mlflow.db").write_text("no database")
    code, said = room.run("up")
    assert code == 75, said
    assert "ifmdm: mlflow did not start" in said
    assert "file is not a database" in said  # MLflow's own words, from the end of its log
    room.nothing_is_left()
    assert room.run("status")[0] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_ends_what_it_started(room: Room, number: signal.Signals) -> None:
    process = room.begin("up")
    while not (room.home / "logs" / "ray.log").exists():
        assert process.poll() is None
        time.sleep(0.05)
    code, said = room.run("up")  # a second one does not interfere
    assert code == 75
    assert "at work" in said
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "interrupted" in err
    room.nothing_is_left()


def test_what_a_killed_start_leaves_is_ended_by_down(room: Room) -> None:
    process = room.begin("up")
    while not (room.home / "logs" / "ray.log").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert room.run("status")[0] == 75
    assert room.run("down")[0] == 0
    room.nothing_is_left()


def test_a_port_that_is_taken_is_told_before_anything_starts(room: Room) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        code, said = room.run("up", "--set", f"gateway.port={port}")
    assert code == 75
    assert f"gateway.port is {port}" in said
    assert f"process {os.getpid()}" in said
    room.nothing_is_left()


def test_a_dry_run_says_what_would_start_and_writes_nothing(room: Room) -> None:
    code, said = room.run("up", "--s3", "--dry-run", "--json")
    assert code == 0, said
    assert [one["name"] for one in json.loads(said)["would_start"]] == ["s3", "ray", "mlflow", "serve"]
    assert not room.home.exists()
    code, said = room.run("up", "--dry-run", "--set", "gatway.port=1")
    assert code == 2
    assert "gateway" in said


def test_nothing_to_look_at_and_nothing_to_end(room: Room) -> None:
    code, said = room.run("status")
    assert code == 3
    assert "ifmdm up" in said
    assert json.loads(room.run("status", "--json")[1]) == {
        "home": str(room.home), "healthy": False, "services": [],
    }  # fmt: skip
    code, said = room.run("down")
    assert code == 0
    assert "no stack" in said
