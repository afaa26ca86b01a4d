"""What a training is called, made of and made by: written into run storage once, told to MLflow from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TrackedInput(BaseModel):
    """A dataset, feature set or model that the training reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="what it is called, e.g. the dataset's folder, or speech/7d2e7b1a60a718c2")
    digest: str = Field(description="of its content, hex")
    source: str = Field(description="where it lies, a path or URI")
    context: Literal["training", "validation", "features", "start"] = "training"
    profile: dict[str, Any] = Field(
        default_factory=dict, description="figures about it: clips, hours, manifest"
    )


class TrackedRun(BaseModel):
    """One training, however often it is restarted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train_id: str = Field(pattern=r"^[0-9a-f]{8,64}$", description="made once; finds the MLflow run")
    name: str = Field(description="shown in MLflow; the run's folder name")
    stage: str = Field(description="speech, autoencoder, motion or evaluation")
    uri: str = Field(description="the run's storage, a path or URI")
    created: float = Field(description="seconds since the epoch")
    config: dict[str, Any] = Field(default_factory=dict, description="the resolved configuration")
    tags: dict[str, str] = Field(default_factory=dict, description="lineage: dataset, digests, parent runs")
    inputs: tuple[TrackedInput, ...] = ()
    git_commit: str = ""
    git_dirty: bool = False
    git_diff: str = Field("", description="what the working tree had beyond the commit")
    note: str = Field("", description="a description, markdown")

    @property
    def params(self) -> dict[str, str]:
        """The configuration as MLflow wants it: flat names, short values."""
        return flatten(self.config)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"fit": {"steps": 3}}` as `{"fit.steps": "3"}`; lists stay together, as JSON; None is "null"."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat
