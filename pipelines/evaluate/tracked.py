"""The evaluation as an MLflow run, if a server answers: figures, tables, the report, the digest of the bundle."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.evaluate.report import EvaluationReport
from pipelines.tracking.mlflow_run import entity_name, experiment_id, open_client
from pipelines.tracking.settings import TrackingSettings

KIND = "evaluation"


def track(
    report: EvaluationReport, folder: Path, settings: TrackingSettings, say: Callable[[str], None]
) -> str | None:
    """Log it; the run's id, or None where that did not work: the report on disk is what counts.

    Args:
        folder: of the evaluation.
        settings: with `uri` resolved, see `TrackingSettings.resolved`.
        say: told where it is, or why it is not.
    """
    if settings.uri is None:
        say("not logged to MLflow: give --mlflow or set MLFLOW_TRACKING_URI")
        return None
    try:
        run_id = _log(report, folder, settings)
    except Exception as error:  # MLflow's, the network's, the database's
        say(
            f"not logged to MLflow at {settings.uri}: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        )
        return None
    say(f"logged to MLflow at {settings.uri}, run {run_id}")
    return run_id


def _log(report: EvaluationReport, folder: Path, settings: TrackingSettings) -> str:
    from mlflow.entities import Metric, Param, RunTag

    assert settings.uri is not None
    client = open_client(settings.uri)
    held_out = report.held_out
    tags = {
        "ifmdm.kind": KIND, "ifmdm.bundle": report.bundle, "ifmdm.bundle_digest": report.bundle_digest,
        "ifmdm.held_out.uri": held_out.uri, "ifmdm.held_out.dataset": held_out.dataset,
        "ifmdm.held_out.settings": held_out.settings, "mlflow.runName": f"evaluate {report.bundle}",
    }  # fmt: skip
    run = client.create_run(experiment_id(client, settings), tags=tags)
    run_id = str(run.info.run_id)
    now = run.info.start_time
    figures: dict[str, float] = {}
    for name, figure in report.figures.items():
        figures |= {name: figure.value, f"{name}.low": figure.low, f"{name}.high": figure.high}
    for row in report.rows:
        for column, figure in row.figures.items():
            figures[f"table {row.table}/{row.row}/{column}"] = figure.value
    metrics = [Metric(entity_name(name), value, now, 0) for name, value in figures.items()]
    params = [Param(name, str(value)) for name, value in _flat(report).items()]
    for first in range(0, max(len(metrics), 1), 900):  # MLflow takes 1,000 in a batch
        client.log_batch(run_id, metrics=metrics[first : first + 900], params=[] if first else params)
    if report.failed:
        client.log_batch(run_id, tags=[RunTag("ifmdm.left_out", str(len(report.failed)))])
    for table in report.tables:
        cells = {column: [row[k] for row in table.rows] for k, column in enumerate(table.columns)}
        if table.rows:
            client.log_table(run_id, cells, f"tables/{_file_name(table.title)}.json")
    for name in ("report.json", "report.html"):
        client.log_artifact(run_id, str(folder / name))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _file_name(title: str) -> str:
    """`Paper, table 1: ours beside ...` as `paper-table-1`: MLflow refuses most punctuation in names of files."""
    return "-".join(re.findall(r"\w+", title.partition(":")[0])).lower()


def _flat(report: EvaluationReport) -> dict[str, Any]:
    counts = {f"clips.{kind}": count for kind, count in report.held_out.clips.items()}
    return {"size": report.settings["size"], "seconds": report.settings["seconds"], **counts}
