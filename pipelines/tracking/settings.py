"""Where figures go, and how patiently."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.uri import Uri

ENVIRONMENT = "MLFLOW_TRACKING_URI"


class TrackingSettings(BaseModel):
    """The `tracking` group of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = Field(
        None,
        description="MLflow server or database; null: $MLFLOW_TRACKING_URI, else mlflow.db beside the runs of a "
        "folder, else figures wait in the run's storage for `ifmdm train sync`",
    )
    experiment: str = Field("ifmdm", min_length=1, max_length=500, description="MLflow experiment")
    system_metrics: bool = Field(True, description="processor, memory, disk and GPU use of each node")
    system_interval_s: float = Field(10.0, gt=0, description="seconds between two samples of a node")
    flush_s: float = Field(
        15.0,
        gt=0,
        description="seconds at most before figures are durable and sent; a checkpoint flushes too",
    )
    patience_s: float = Field(
        60.0, ge=0, description="seconds that the end of a training waits for a server that does not answer"
    )

    def resolved(self, runs: str | Path) -> TrackingSettings:
        """With `uri` as it will be used for runs at `runs` (a folder or `s3://`); still None if there is none."""
        return self.model_copy(update={"uri": self.uri or os.environ.get(ENVIRONMENT) or _beside(runs)})


def _beside(runs: str | Path) -> str | None:
    uri = Uri.parse(str(runs))
    return f"sqlite:///{Path(uri.path).resolve()}/mlflow.db" if uri.scheme == "file" else None


def artifact_root(uri: str) -> str | None:
    """Where a new experiment's files go: beside an SQLite file, else as the server decides (None)."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
