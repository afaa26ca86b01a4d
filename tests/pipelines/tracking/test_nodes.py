"""System metrics of nodes arrive in the training's run, and nowhere else."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

import pytest

from ifmdm_core.storage import open_storage
from pipelines.tracking.nodes import NodeMetrics
from pipelines.tracking.settings import ENVIRONMENT, TrackingSettings, artifact_root
from tests.mlflow_server import MlflowServer
from tests.pipelines.tracking.pretend_training import train


def test_two_nodes_report_beside_the_figures(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    train_id, storage = uuid4().hex, open_storage(tmp_path)
    settings = TrackingSettings(uri=mlflow_server.uri, flush_s=0.1, system_interval_s=0.2)
    nodes = [
        NodeMetrics.start(storage, settings, f"node-{number}") for number in range(2)
    ]  # before there is a run
    report = train(storage, settings, train_id, 10, 5)
    assert report is not None
    assert report.run_id is not None
    deadline = time.monotonic() + 60
    wanted = {f"system/node-{number}/cpu_utilization_percentage" for number in range(2)}
    while not wanted <= set(mlflow_server.steps(report.run_id, "system/")) and time.monotonic() < deadline:
        time.sleep(0.2)
    for node in nodes:
        node.stop()
    found = mlflow_server.steps(report.run_id, "system/")
    assert wanted <= set(found)
    assert all(set(counts.values()) == {1} for counts in found.values())


def test_nodes_that_shall_not_report_do_not(tmp_path: Path) -> None:
    for settings in (TrackingSettings(), TrackingSettings(uri="http://127.0.0.1:9", system_metrics=False)):
        metrics = NodeMetrics.start(open_storage(tmp_path), settings, "node-0")
        assert not metrics._thread.is_alive()
        metrics.stop()


def test_where_figures_go_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    runs = tmp_path / "runs"
    assert TrackingSettings().resolved(runs).uri == f"sqlite:///{runs}/mlflow.db"
    assert artifact_root(f"sqlite:///{runs}/mlflow.db") == (runs / "mlartifacts").as_uri()
    assert TrackingSettings().resolved("s3://bucket/runs").uri is None  # the spool waits for a sync
    monkeypatch.setenv(ENVIRONMENT, "http://mlflow:5000")
    assert TrackingSettings().resolved("s3://bucket/runs").uri == "http://mlflow:5000"
    assert artifact_root("http://mlflow:5000") is None
    assert TrackingSettings(uri="http://mine:5000").resolved(runs).uri == "http://mine:5000"
