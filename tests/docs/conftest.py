"""A room with the files that the documents take for granted, and one dataset made by their commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ifmdm_core.storage import S3Config, s3_client
from tests.docs.documents import ROOT, read
from tests.docs.one_process import extraction_here
from tests.docs.typed import run_shell


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Iterator[Path]:
    """The current folder: photo.jpg, speech.wav (1 s), configs/. Variables that a document exports end with it."""
    from tests.benchmarks.serve_clients import Inputs

    folder, before, variables = tmp_path_factory.mktemp("docs"), Path.cwd(), dict(os.environ)
    shutil.copy(portrait, folder / "photo.jpg")
    (folder / "speech.wav").write_bytes(Inputs([1.0]).speeches[1.0])
    (folder / "configs").symlink_to(ROOT / "configs")
    os.environ.update(IFMDM_CACHE=str(folder / "cache"))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.chdir(folder)
    yield folder
    os.chdir(before)
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(scope="module")
def bucket(room: Path, s3_endpoint: str, s3_config: S3Config) -> S3Config:
    """The S3 server of the tests, found by the environment alone; it has `bucket` and `renders`."""
    os.environ["AWS_ENDPOINT_URL"] = s3_endpoint
    s3_client(s3_config).create_bucket(Bucket="bucket")
    return s3_config


@pytest.fixture(scope="module")
def dataset(room: Path, bucket: S3Config) -> Iterator[Path]:
    """`set` in the room: drawn people, cut and encoded by the commands of README's second path."""
    block = read("README.md").block("pipelines.synthetic")
    with extraction_here():
        run_shell(block, {"--people 6 --seconds 3": "--people 3 --seconds 1.2"})
        yield room / "set"
