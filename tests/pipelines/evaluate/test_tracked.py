"""An evaluation in MLflow's database; and a server that is down costs nothing but a line."""

import sqlite3

import pytest

from ifmdm_core.metrics.tables import Figure, Table
from pipelines.evaluate.report import EvaluationReport, HeldOut, RowFigures
from pipelines.evaluate.tracked import track
from pipelines.tracking.settings import TrackingSettings


@pytest.fixture
def report(tmp_path):
    table = Table(title="Paper, table 1: ours", columns=["row", "S"])
    table.add("ours", 0.4)
    other = Table(title="3. Equivariance (twice as loud): r", columns=["change", "r"])
    other.add("+6 dB", 0.9)
    s = Figure(value=0.4, low=0.3, high=0.5, count=2)
    report = EvaluationReport(
        bundle="demo", bundle_digest="ab" * 32, created="2026-01-01T00:00:00+00:00", seconds=1.0,
        held_out=HeldOut(uri="heldout", dataset="d1", settings="s1", clips={"grid": 2}),
        settings={"size": 256, "seconds": 4.0}, figures={"S": s}, tables=[table, other],
        rows=[RowFigures(table=1, row="true motion, our decoder", figures={"S": s})], failed={"x": "no sound"},
    )  # fmt: skip
    report.save(tmp_path / "report.json")
    (tmp_path / "report.html").write_text("<html></html>")
    return report


def test_figures_tables_and_the_report_are_in_the_database(report, tmp_path):
    said = []
    run = track(report, tmp_path, TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db"), said.append)
    assert run in said[0]
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        metrics = dict(db.execute("select key, value from metrics where run_uuid = ?", (run,)).fetchall())
        tags = dict(db.execute("select key, value from tags where run_uuid = ?", (run,)).fetchall())
        status = db.execute("select status from runs where run_uuid = ?", (run,)).fetchone()[0]
    assert {name: value for name, value in metrics.items() if name.startswith("S")} == {
        "S": 0.4, "S.low": 0.3, "S.high": 0.5,
    }  # fmt: skip
    assert 0.4 in [value for name, value in metrics.items() if name.startswith("table 1/true motion")]
    assert tags["ifmdm.bundle_digest"] == report.bundle_digest
    assert tags["ifmdm.left_out"] == "1"
    assert status == "FINISHED"
    files = {path.name for path in (tmp_path / "mlartifacts").rglob("*.*")}
    assert {"report.json", "report.html", "paper-table-1.json", "3-equivariance-twice-as-loud.json"} <= files


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", None])
def test_no_server_costs_a_line(report, tmp_path, uri):
    said = []
    assert track(report, tmp_path, TrackingSettings(uri=uri), said.append) is None
    assert said[0].startswith("not logged to MLflow")
