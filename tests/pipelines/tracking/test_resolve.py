"""From names to bundles, and which names are refused."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import BadInput, Conflict, NotFound, Unavailable
from ifmdm_core.storage import S3Config
from pipelines.registry import api
from pipelines.tracking.mlflow_run import open_client
from pipelines.tracking.resolve import open_model, resolve
from tests.mlflow_server import MlflowServer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFMDM_CACHE", str(tmp_path / "cache"))


def test_a_name_becomes_an_address_and_a_digest_and_they_a_bundle(
    mlflow_server: MlflowServer, tiny_bundle: Path, s3_config: S3Config, tmp_path: Path
) -> None:
    name, digest = f"m{uuid4().hex[:8]}", load_bundle(tiny_bundle).digest
    api.register(name, str(tiny_bundle), store="s3://renders/named", mlflow=mlflow_server.uri, s3=s3_config)
    open_client(mlflow_server.uri).set_registered_model_alias(name, "best", "1")
    for reference in (f"models:/{name}/1", f"models:/{name}@best"):
        found = resolve(reference, mlflow_server.uri)
        assert (found.version, found.sha256) == (1, digest)
        opened = open_model(reference, mlflow_server.uri, s3_config)
        assert opened.digest == digest
        assert opened.folder == tmp_path / "cache" / "bundles" / digest


def test_names_that_mean_nothing_are_refused(mlflow_server: MlflowServer) -> None:
    name, uri = f"m{uuid4().hex[:8]}", mlflow_server.uri
    client = open_client(uri)
    client.create_registered_model(name)
    client.create_model_version(name, "s3://bucket/elsewhere")
    with pytest.raises(Conflict, match="no bundle of ifmdm"):
        resolve(f"models:/{name}/1", uri)
    for missing in (
        f"models:/{name}/2",
        f"models:/{name}@champion",
        "models:/nobody@champion",
        "models:/nobody/1",
    ):
        with pytest.raises(NotFound, match=missing.replace("/", "\\/")):
            resolve(missing, uri)
    with pytest.raises(BadInput, match="names no model"):
        resolve("models:/a/b/c", uri)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 does not answer"):
        resolve(f"models:/{name}/1", "http://127.0.0.1:9")
