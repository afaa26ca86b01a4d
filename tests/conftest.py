"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ifmdm_core.storage import S3Config, s3_client
from tests.fault_proxy import FaultProxy
from tests.mlflow_server import MlflowServer
from tests.s3_server import S3Server
from tests.tiny_bundle import make_tiny_bundle

LONGEST = ("tests/crash", "tests/pipelines/training", "tests/cluster", "tests/pipelines/run")
SAMPLES = Path(__file__).parent.parent / "ifmdm_core" / "assets" / "samples"


@pytest.fixture(scope="session")
def portrait() -> Path:
    """The bundled photo, one face, 512x512."""
    return SAMPLES / "astronaut.jpg"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server of this process, spoken to over HTTP; the credentials are in the environment."""
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    server = S3Server()
    yield server.endpoint
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def s3_config(s3_endpoint: str) -> S3Config:
    """Its settings; it has a bucket `renders`. Take a prefix of your own."""
    config = S3Config(endpoint=s3_endpoint, region="us-east-1")
    s3_client(config).create_bucket(Bucket="renders")
    return config


@pytest.fixture
def flaky_s3(s3_endpoint: str, s3_config: S3Config) -> Iterator[FaultProxy]:
    """A proxy before that server, which fails when told to; `flaky_s3.config` goes through it."""
    with FaultProxy(s3_endpoint, s3_config) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()


@pytest.fixture
def mlflow_server(_mlflow_server: MlflowServer) -> MlflowServer:
    """A running MLflow server (SQLite), one for all tests: take a train_id and names of your own. You may kill it."""
    _mlflow_server.start()
    return _mlflow_server


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Writes a bundle of tiny networks with random weights: size 64, a few thousand parameters."""

    return make_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such bundle; do not write to it."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long parts first, for two processes to end together, and last the one whose Ray stays in its process."""

    def place(item: pytest.Item) -> int:
        part = _part(item.nodeid)
        return len(LONGEST) + 1 if part == "tests/serve" else (*LONGEST, part).index(part)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share something dear (a Ray cluster, a trained model) stay in one process of pytest-xdist."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _part(nodeid)

    return ByPart(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Seconds by part of the project; parts run side by side, so they add up to more than the whole."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[_part(report.nodeid)] += report.duration
    if sum(seconds.values()) > 60:
        terminalreporter.section("seconds by part")
        for part, spent in seconds.most_common():
            terminalreporter.write_line(f"{spent:7.0f}  {part}")


def _part(nodeid: str) -> str:
    """tests/pipelines/run of tests/pipelines/run/test_pool.py::test_it; all of tests/serve is one."""
    folders = nodeid.split("::")[0].split("/")[1:-1][:2]
    return "/".join(["tests", *(folders[:1] if folders[:1] == ["serve"] else folders)])
