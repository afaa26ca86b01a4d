"""The lines of a spool: everything that MLflow is to know of a training's course."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class _Entry(BaseModel):
    # Figures may be NaN (a metric without data); JSON of pydantic would make them null.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    time: float = Field(description="seconds since the epoch; goes with the entry wherever it is sent")


class StepFigures(_Entry):
    """Figures of one step of training."""

    kind: Literal["step"] = "step"
    step: int
    values: dict[str, float]


class Validated(_Entry):
    """A look at held-out data."""

    kind: Literal["validation"] = "validation"
    step: int
    values: dict[str, float]
    files: tuple[str, ...] = Field((), description="keys in the run's storage")


class Checkpointed(_Entry):
    """A checkpoint was committed."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    uri: str
    sha256: str


class Exported(_Entry):
    """The training's result was written."""

    kind: Literal["result"] = "result"
    step: int
    uri: str
    sha256: dict[str, str] = Field(description="by file")


class Status(_Entry):
    """The training began, began again, or ended."""

    kind: Literal["status"] = "status"
    status: RunStatus
    note: str = ""


Entry = Annotated[StepFigures | Validated | Checkpointed | Exported | Status, Field(discriminator="kind")]
ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
