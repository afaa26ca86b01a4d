"""Motion generators that a new encoder leaves behind: they speak of motion vectors that it does not make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.tracking.mlflow_errors import mlflow_errors

if TYPE_CHECKING:
    from pipelines.registry.versions import Registry, Version


@dataclass(frozen=True)
class Stale:
    """Trained on another encoder than `encoder`; each goes on working with the autoencoder it was trained with."""

    encoder: str
    versions: list[Version] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    """Names of motion trainings in MLflow, by run id."""

    def __bool__(self) -> bool:
        return bool(self.versions or self.runs)

    def lines(self) -> list[str]:
        """For people: one line per motion generator."""
        named = [f"{v.label} (encoder {v.encoder[:12]})" for v in self.versions]
        return [*named, *(f"motion run {name} ({run_id})" for run_id, name in self.runs.items())]


def find_stale(registry: Registry, encoder: str) -> Stale:
    """All registered versions, and all tracked motion trainings, of other encoders."""
    versions = [version for version in registry.versions() if version.encoder != encoder]
    with mlflow_errors(registry.mlflow, "looking for motion trainings"):
        experiments = [entry.experiment_id for entry in registry.client.search_experiments()]
        wanted = f"tags.`ifmdm.stage` = 'motion' and tags.motion_encoder != '{encoder}'"
        runs = registry.client.search_runs(experiments, wanted, max_results=1000)
    return Stale(encoder, versions, {run.info.run_id: run.info.run_name or "" for run in runs})
