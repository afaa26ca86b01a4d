"""What work costs, as measured: seconds by stage, and where, when and on how much the figures stand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import read_mapping, validate
from ifmdm_core.errors import BadInput

FPS = 25
"""Frames per second of a video, as planned."""
OWN_SIZE = 0
"""Stands for a model's own picture size."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cost(_Record):
    """Seconds of work that a job takes of one kind: `per_job` + `per_unit` x units, fitted to samples."""

    per_job: float = Field(0.0, ge=0, description="seconds, however long the video")
    per_unit: float = Field(0.0, ge=0, description="seconds for each unit")
    unit: str = Field(
        "job", description="what is counted: video second, frame, hour of video; job for nothing"
    )
    samples: int = Field(ge=1, description="measurements that this stands on")
    low: float = Field(1.0, gt=0, description="measured / fitted: 10 of 100 samples are below")
    high: float = Field(1.0, gt=0, description="measured / fitted: 10 of 100 samples are above")

    def seconds(self, units: float = 0.0) -> float:
        """Of one job with so many units."""
        return self.per_job + self.per_unit * units

    def faster(self, times: float) -> Cost:
        """The same work on something so many times as fast."""
        return self.model_copy(update={"per_job": self.per_job / times, "per_unit": self.per_unit / times})


class Rates(_Record):
    """Measured on one kind of machine, with one bundle."""

    version: int = Field(1, ge=1, le=1, description="of this layout")
    source: str = Field(description="the command that measured it, or where the figures stand")
    machine: str = Field(description="processor, threads, versions")
    device: str = Field(description="cpu, or the accelerator's name")
    measured_at: datetime = Field(description="when, with a time zone")
    cores: float = Field(
        gt=0, description="CPU cores that a stage at work keeps busy; of a GPU's host otherwise"
    )
    slots: int | None = Field(
        None, ge=1, description="jobs that were under way at once while it was measured"
    )
    speech: Cost = Field(description="speech encoder; video second")
    motion: dict[int, Cost] = Field(min_length=1, description="motion sampler by denoising steps; frame")
    decoder: dict[int, Cost] = Field(
        min_length=1, description="frame decoder, H.264 included, by side of the output in pixels; frame"
    )
    encoding: float = Field(
        ge=0, lt=1, description="part of the decoder's work that is H.264, which goes on beside the painting"
    )
    claim: Cost = Field(description="from a free slot to the next job's begin")
    inputs: Cost = Field(description="download, decoding, finding the face; video second")
    finish: Cost = Field(description="mux, signature, upload, verdict; video second")
    publish: Cost = Field(description="from the verdict to the published output")
    start: Cost = Field(description="from a worker's first claim to its model being loaded, once a worker")
    extraction: Cost | None = Field(None, description="cutting clips and both features; hour of video")

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def about(self) -> str:
        """One line on where they come from, for people."""
        return f"rates: {self.source}; {self.device}, {self.machine}, {self.measured_at:%Y-%m-%d}"

    def motion_at(self, steps: int) -> Cost:
        """For a number of denoising steps: measured, or in proportion to the nearest that was."""
        nearest = min(self.motion, key=lambda known: (abs(known - steps), known))
        return self.motion[nearest].faster(nearest / steps)

    def decoder_at(self, size: int | None) -> Cost:
        """For an output of that many pixels a side, None for the model's own. Raises BadInput for an unmeasured one."""
        found = self.decoder.get(OWN_SIZE if size is None else size)
        if found is None:
            sizes = ", ".join(
                "the model's own" if known == OWN_SIZE else str(known) for known in sorted(self.decoder)
            )
            raise BadInput(
                f"there is no rate for size {'of the model itself' if size is None else size}",
                fix=f"measured: {sizes}; measure it with ifmdm plan rates",
            )
        return found

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def load_rates(name: str) -> Rates:
    """Rates from a file, or those that come with ifmdm by their name.

    Raises NotFound, BadInput for a file that holds something else.
    """
    from infra.planning.known_rates import KNOWN

    if name in KNOWN:
        return KNOWN[name]
    return validate(Rates, read_mapping(name), where=name)


def now() -> datetime:
    """For `measured_at`."""
    return datetime.now(UTC).replace(microsecond=0)
