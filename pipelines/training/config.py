"""The groups that every training's configuration has; each stage adds its own (see `stages`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ifmdm_core.errors import NotFound
from ifmdm_core.training.fit import FitSettings
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.uri import Uri
from pipelines.tracking.settings import TrackingSettings
from pipelines.training.checkpoints import KeepConfig


class DataConfig(BaseModel):
    """What is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="folder or s3://bucket/prefix of `ifmdm data`")
    generation: str | None = Field(None, description="clips cut with other parameters; null: the current")
    speech: str | None = Field(
        None, description="digest (its beginning) of speech features; null: the newest"
    )
    motion: str | None = Field(
        None, description="digest (its beginning) of motion features; null: the newest"
    )
    selection: str | None = Field(None, description="name of a selection; null: every clip")
    split: str | None = Field("train", description="clips that are trained on; null: all")
    validation_split: str | None = Field("heldout", description="clips that are validated on; null: none")
    validation_clips: int = Field(16, ge=1, description="most clips of a look at held-out data")
    batch: int = Field(gt=0, description="samples of a step, over all workers")
    buffer: int = Field(4, ge=1, description="shards open, and shuffled, together")
    threads: int = Field(2, ge=1, description="threads of a worker that decode")


Count = Annotated[int, Field(ge=1)]


class WorkersConfig(BaseModel):
    """How many processes train, and on what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Count | tuple[Count, Count] = Field(
        1,
        description="workers; [least, most] goes on with fewer when nodes are lost, and with more when they come",
    )
    cpus: float = Field(1.0, gt=0, description="CPUs of a worker")
    gpus: float = Field(0.0, ge=0, le=1, description="GPUs of a worker: 0, 1 or a part of one")
    threads: int = Field(1, ge=1, description="PyTorch's threads in a worker; fixed, so that results repeat")
    failures: int = Field(5, ge=0, description="times that the workers are started again after one was lost")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if isinstance(self.count, tuple) and self.count[0] > self.count[1]:
            raise ValueError(f"count [{self.count[0]}, {self.count[1]}] must be [least, most]")
        return self

    @property
    def least(self) -> int:
        return self.count if isinstance(self.count, int) else self.count[0]

    @property
    def most(self) -> int:
        return self.count if isinstance(self.count, int) else self.count[1]


class StartConfig(BaseModel):
    """What training begins from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str | None = Field(None, description="'demo' or a bundle folder: its weights of this stage")
    weights: str | None = Field(
        None, description="a weights file, or a speech folder, that a training exported"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.bundle and self.weights:
            raise ValueError("give start.bundle or start.weights, not both")
        return self


class TrainingConfig(BaseModel):
    """A whole configuration; stages add groups to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataConfig
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    fit: FitSettings
    start: StartConfig = StartConfig()
    runs: str = Field("runs", description="folder or s3://bucket/prefix that holds runs")
    workers: WorkersConfig = WorkersConfig()
    checkpoints: KeepConfig = KeepConfig()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        least = self.workers.most * self.optimiser.accumulate
        if self.data.batch < least:
            raise ValueError(
                f"data.batch {self.data.batch} is less than {least}: each of {self.workers.most} workers needs "
                f"optimiser.accumulate = {self.optimiser.accumulate} samples at least"
            )
        return self

    def anchored(self) -> Self:
        """The same with absolute paths: workers and later calls have other working folders."""
        start = self.start.model_copy(
            update={
                "bundle": anchored_model(self.start.bundle, "start.bundle"),
                "weights": anchored_model(self.start.weights, "start.weights"),
            }
        )
        data = self.data.model_copy(update={"dataset": absolute(self.data.dataset)})
        runs = absolute(self.runs)
        tracking = self.tracking.resolved(runs)
        return self.model_copy(update={"data": data, "runs": runs, "start": start, "tracking": tracking})

    def dumped(self) -> dict[str, Any]:
        """As JSON-able values."""
        return self.model_dump(mode="json")


def absolute(place: str) -> str:
    """A folder as an absolute path; an s3:// URI as it is."""
    uri = Uri.parse(place)
    return str(Path(os.path.expanduser(uri.path)).resolve()) if uri.scheme == "file" else place.rstrip("/")


def anchored_model(ref: str | None, setting: str) -> str | None:
    """A model's folder or file as an absolute path; "demo" and None as they are.

    Raises:
        NotFound: nothing is there.
    """
    if ref is None or ref == "demo":
        return ref
    path = Path(os.path.expanduser(ref))
    if not path.exists():
        raise NotFound(
            f"{setting}: there is nothing at {ref!r}", fix="give 'demo', a bundle or exported weights"
        )
    return str(path.resolve())
