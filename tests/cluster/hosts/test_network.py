"""Networks of hosts: cut, healed, and gone again however their owner ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.hosts.network import ROOT, Network, why_not

UNABLE = why_not()
pytestmark = pytest.mark.skipif(UNABLE is not None, reason=str(UNABLE))

OWNER = """
import os, subprocess, sys
from pathlib import Path
from tests.cluster.hosts.network import Network
with Network(2, Path(sys.argv[1])) as network:
    subprocess.Popen(network.on(1, "sleep", "600"), start_new_session=True)
    print(network.on(1)[3], flush=True)
    os.kill(os.getpid(), 9)
"""
LISTEN = "import socket; s = socket.create_server(('', 9000)); print(flush=True)\nwhile True: s.accept()[0].close()"


def test_a_host_that_is_cut_off_is_reached_again_once_it_is_healed(tmp_path: Path) -> None:
    with Network(2, tmp_path / "run") as network:
        server = subprocess.Popen(network.on(2, sys.executable, "-c", LISTEN), stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        assert _reaches(network, 2)
        network.cut(2)
        assert not _reaches(network, 2)
        network.heal(2)
        assert _reaches(network, 2)
    assert server.wait(30) != 0


def test_of_a_network_whose_owner_was_killed_nothing_is_left(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", OWNER, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60
    )
    namespace = killed.stdout.strip()
    assert namespace
    end = time.monotonic() + 60
    while run.exists():
        assert time.monotonic() < end, "its guard does not end"
        time.sleep(0.1)
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert namespace not in left


def _reaches(network: Network, host: int) -> bool:
    code = f"import socket; socket.create_connection(('{network.address(host)}', 9000), 2)"
    return subprocess.run(network.on(1, sys.executable, "-c", code), capture_output=True).returncode == 0
