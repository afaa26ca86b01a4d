"""Three hosts with Ray and a fourth with S3 and MLflow, and the commands of users, typed on the first."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ifmdm_core.storage import S3Config, Storage, open_storage, s3_client
from tests.cluster.hosts.network import ROOT, Network
from tests.cluster.hosts.ray_hosts import RayHosts
from tests.crash.job_room import CREDENTIALS
from tests.mlflow_server import MlflowServer

WORKERS = (2, 3)
SERVICES = 4
TIMEOUT_S = 1200.0
"""Longest a command may take; no figure of its speed, machines may be busy."""
_S3 = """
import sys
from tests.s3_server import S3Server
print(S3Server(sys.argv[1]).endpoint, flush=True)
sys.stdin.read()
"""


class Place:
    """All of it, as a context manager; `network`, `ray`, `mlflow` and `s3` are there inside the block."""

    def __enter__(self) -> Place:
        self.folder = Path(tempfile.mkdtemp(prefix="ifmdm-hosts-"))
        with contextlib.ExitStack() as held:
            self.network = held.enter_context(Network(SERVICES, self.folder))
            self.mlflow = MlflowServer(
                self.folder / "mlflow", self.network.address(SERVICES), self.network.on(SERVICES)
            )
            self.s3 = S3Config(endpoint=self._start_s3(held), region="us-east-1")
            held.enter_context(_variables(CREDENTIALS))
            s3_client(self.s3).create_bucket(Bucket="renders")
            self.ray = held.enter_context(RayHosts(self.network, self.folder, WORKERS, _one_thread()))
            held.callback(self.mlflow.kill)
            self.mlflow.start(wait=False)  # after Ray, which gives each of its nodes 30 s to start
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def storage(self, prefix: str) -> Storage:
        """What lies under a prefix of the bucket."""
        return open_storage(f"s3://renders/{prefix}", self.s3)

    def start(self, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """`ifmdm …` as a user types it on host 1; what it says is added to `log`."""
        environment = {
            **self.ray.environment, **CREDENTIALS, "AWS_ENDPOINT_URL": str(self.s3.endpoint),
            "IFMDM_CACHE": str(self.folder / "cache"),
        }  # fmt: skip
        with log.open("ab") as file:
            return subprocess.Popen(
                self.network.on(1, sys.executable, "-m", "infra.cli", *arguments), cwd=self.folder,
                env={**environment, "PYTHONPATH": str(ROOT)}, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def ifmdm(self, *arguments: str) -> str:
        """What a command says. Raises AssertionError where it does not end well."""
        log = self.folder / "commands.log"
        before = log.stat().st_size if log.exists() else 0
        code = self.start(log, *arguments).wait(TIMEOUT_S)
        said = log.read_bytes()[before:].decode(errors="replace")
        assert code == 0, f"ifmdm {' '.join(arguments)}: {code}\n{said[-2000:]}"
        return said

    def _start_s3(self, held: contextlib.ExitStack) -> str:
        address = self.network.address(SERVICES)
        process = subprocess.Popen(
            self.network.on(SERVICES, sys.executable, "-c", _S3, address),
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        held.callback(process.communicate, "")
        assert process.stdout is not None
        return process.stdout.readline().strip()


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def _variables(values: dict[str, str]):  # type: ignore[no-untyped-def]
    """They are in this process's environment for the duration of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
