"""Where the registry and its bundles are, when a command does not say."""

from __future__ import annotations

import os
from pathlib import Path

from ifmdm_core.errors import BadInput
from pipelines.tracking.settings import ENVIRONMENT, TrackingSettings

STORE = "IFMDM_MODELS"
_RUNS = "runs"


def mlflow_uri(given: str | None = None, *, required: bool = True) -> str | None:
    """MLflow as given, from $MLFLOW_TRACKING_URI, or the database that trainings into ./runs write.

    Raises:
        BadInput: none of them, and it is required.
    """
    found = given or os.environ.get(ENVIRONMENT)
    if found is None and (Path(_RUNS) / "mlflow.db").is_file():
        found = TrackingSettings().resolved(_RUNS).uri
    if found is None and required:
        raise BadInput("no MLflow is set", fix=f"give --mlflow URI, or set ${ENVIRONMENT}")
    return found


def model_store(given: str | None = None) -> str:
    """Folder or `s3://bucket/prefix` of bundles: as given, from $IFMDM_MODELS, or ./models."""
    store = given or os.environ.get(STORE) or "models"
    return store.rstrip("/") if store.startswith("s3://") else str(Path(store).expanduser().resolve())
