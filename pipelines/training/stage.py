"""What training needs to know of a stage: its configuration, what it reads, its task, what may be refused early."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ifmdm_core.storage import S3Config
from pipelines.training.checkpoints import KeepConfig
from pipelines.training.config import TrainingConfig
from pipelines.training.data import Needs
from pipelines.training.run import DataRecord

if TYPE_CHECKING:
    from ifmdm_core.training.task import BatchSource, TrainingTask


def say_nothing(what: str) -> None:
    """For those whom nobody watches."""


@dataclass(frozen=True)
class Materials:
    """What a task is built from."""

    config: Any
    """Of the stage's own class."""
    data: DataRecord
    start: Path
    """Local folder with what `Stage.prepare` wrote."""
    s3: S3Config | None = None
    say: Callable[[str], None] = say_nothing
    """Told what is about to take a while."""


@dataclass(frozen=True)
class Facts:
    """What is known of a training before it starts."""

    parameters: dict[str, int] = field(default_factory=dict)
    """Trained and frozen numbers by network."""
    parents: dict[str, str] = field(default_factory=dict)
    """What it starts from: name -> digest."""


class Stage(ABC):
    """One of the things that can be trained. Stages are built without arguments and hold no state."""

    name: str
    """As in `ifmdm train NAME`."""
    config: type[TrainingConfig]
    needs: Needs
    metric: str
    """The validation figure that the best checkpoint is chosen by."""
    mode: Literal["min", "max"]
    result: str
    """Name of the exported file or folder."""

    @abstractmethod
    def check(self, config: Any, data: DataRecord, s3: S3Config | None) -> Facts:
        """Refuse what can be refused before a worker starts: weights that do not fit, digests that do not match."""

    @abstractmethod
    def prepare(self, materials: Materials) -> None:
        """Fit and copy what must not change later into `materials.start`."""

    @abstractmethod
    def source(self, materials: Materials) -> BatchSource:
        """Where the batches come from."""

    @abstractmethod
    def task(self, materials: Materials, *, leads: bool) -> TrainingTask:
        """The task as it is before step 0; only the process that leads needs what it validates with."""

    def keep(self, config: TrainingConfig) -> KeepConfig:
        """Which checkpoints stay, with the stage's own figure filled in."""
        own = config.checkpoints
        metric = own.metric or self.metric
        mode = own.mode or (self.mode if metric == self.metric else "min")
        return own.model_copy(update={"metric": metric, "mode": mode})

    def lineage(self, data: DataRecord) -> dict[str, str]:
        """What the exported weights say about their data; no paths."""
        values = {
            "dataset_content": data.content, "generation": data.generation, "speech_features": data.speech,
            "motion_features": data.motion, "encoder": data.motion_encoder, "speech": data.speech_encoder,
        }  # fmt: skip
        return {name: value for name, value in values.items() if value}
