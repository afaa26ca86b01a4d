"""Runs as they stand, and what tracking lacks of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ifmdm_core.errors import IfmdmError
from ifmdm_core.storage import S3Config
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.tracker import TrackingReport
from pipelines.tracking.tracker import sync as send
from pipelines.training.attempts import Attempt
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.config import absolute
from pipelines.training.result import read_result
from pipelines.training.run import RunFolder, list_runs


class RunState(BaseModel):
    """One run of a listing."""

    model_config = ConfigDict(frozen=True)

    name: str
    uri: str
    stage: str
    created: str
    state: str
    """finished, stopped, failed, training, or interrupted (its driver died without a word)."""
    step: int
    """Of the result, else of the newest checkpoint."""
    steps: int
    attempts: int
    figures: dict[str, float]
    """Of held-out data where there are any, else the last of training."""


def state_of(run: RunFolder) -> RunState:
    """How a run stands.

    Raises:
        NotFound: no run there.
    """
    record, result = run.record(), read_result(run)
    attempt = Attempt.last(run.storage)
    newest = None if result else Checkpoints(run.storage).newest()
    figures = result.metrics if result else newest.record.metrics if newest else {}
    if not figures and attempt is not None:
        figures = (attempt.told() or {}).get("values", {})
    return RunState(
        name=record.name, uri=run.uri, stage=record.stage, created=record.created,
        state="finished" if result else _state(run, attempt),
        step=result.step if result else newest.record.step if newest else 0,
        steps=int(record.config["fit"]["steps"]), attempts=attempt.number if attempt else 0, figures=figures,
    )  # fmt: skip


def runs(uri: str, s3: S3Config | None = None) -> list[RunState]:
    """The runs under a folder or prefix, the newest last."""
    return sorted(
        (state_of(run) for run in list_runs(absolute(uri), s3)), key=lambda run: (run.created, run.name)
    )


def sync(
    run: str, *, uri: str | None = None, patience_s: float = 0.0, s3: S3Config | None = None
) -> TrackingReport:
    """Send MLflow what it lacks of a run.

    Args:
        uri: of MLflow; the run's own by default.

    Raises:
        NotFound: no such run.
    """
    folder = RunFolder.at(absolute(run), s3)
    record = folder.record()
    settings = TrackingSettings.model_validate(record.config["tracking"])
    if uri is not None:
        settings = settings.model_copy(update={"uri": uri})
    settings = settings.resolved(record.config["runs"])
    return send(folder.storage, settings, patience_s=patience_s)


def table(found: list[RunState]) -> str:
    """For a terminal."""
    if not found:
        return "no runs"
    rows = [("RUN", "STAGE", "STATE", "STEP", "CREATED", "FIGURES")]
    for run in found:
        figures = " ".join(f"{name} {value:.4g}" for name, value in sorted(run.figures.items())[:4])
        rows.append((run.name, run.stage, run.state, f"{run.step}/{run.steps}", run.created, figures))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _state(run: RunFolder, attempt: Attempt | None) -> str:
    if attempt is None:
        return "begun"
    ended = attempt.ended()
    if ended is not None:
        return ended
    try:
        attempt.refuse_if_alive(run)
    except IfmdmError:
        return "training"
    return "interrupted"
