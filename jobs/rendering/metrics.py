"""What one attempt cost, as metrics.json in its folder. Pydantic only: whoever adds costs up reads it too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

from jobs.clock import Clock

METRICS = "metrics.json"
"""Its name in the attempt's folder."""
STAGES = ("speech", "motion", "decoder")


class StageCost(BaseModel):
    """One stage's share."""

    model_config = ConfigDict(extra="forbid")

    calls: int = Field(0, description="answered calls")
    busy_s: float = Field(0.0, description="working seconds: of each batch, this attempt's share")
    waited_s: float = Field(
        0.0, description="seconds that its calls waited in replicas before their batch began"
    )
    batch: float = Field(0.0, description="calls in a batch, mean over this attempt's calls")

    def add(self, busy_s: float, waited_s: float, batch: int) -> None:
        """One more call."""
        self.batch = (self.batch * self.calls + batch) / (self.calls + 1)
        self.calls += 1
        self.busy_s += busy_s
        self.waited_s += waited_s


class AttemptMetrics(BaseModel):
    """The figures of one attempt; they grow with it."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(1, description="of this layout")
    outcome: str = Field("running", description="rendered, halted, or the class of the error")
    frames: int = Field(0, description="frames of the video; 0 where it is not known")
    fps: int = Field(description="frames per second of the video")
    frames_decoded: int = Field(0, description="frames that this attempt had painted")
    resumed_motion: bool = Field(False, description="whether the motion came from an earlier attempt")
    seconds: float = Field(0.0, description="wall time of the attempt")
    first_chunk_s: float | None = Field(
        None, description="wall time until the first chunk of frames was there"
    )
    phases: dict[str, float] = Field(default_factory=dict, description="wall seconds of each phase, in order")
    stages: dict[str, StageCost] = Field(
        default_factory=lambda: {name: StageCost() for name in STAGES}, description="cost by stage"
    )
    frames_per_s: float = Field(0.0, description="painted frames by second of the phase `frames`")
    realtime: float = Field(0.0, description="seconds of painted video by second of the attempt")

    @property
    def busy_s(self) -> dict[str, float]:
        """Working seconds by stage."""
        return {name: cost.busy_s for name, cost in self.stages.items()}


class Stopwatch:
    """Times the phases of an attempt into its metrics."""

    def __init__(self, metrics: AttemptMetrics, clock: Clock) -> None:
        self._metrics, self._clock, self._began = metrics, clock, clock.monotonic()

    @property
    def seconds(self) -> float:
        """Since the attempt began."""
        return self._clock.monotonic() - self._began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """One phase, also where it fails."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._metrics.phases[name] = round(self._clock.monotonic() - began, 6)

    def stop(self, outcome: str) -> None:
        """The attempt is over: what follows from the rest."""
        metrics = self._metrics
        metrics.outcome, metrics.seconds = outcome, round(self.seconds, 6)
        decoding = metrics.phases.get("frames", 0.0)
        metrics.frames_per_s = metrics.frames_decoded / decoding if decoding else 0.0
        metrics.realtime = metrics.frames_decoded / metrics.fps / metrics.seconds if metrics.seconds else 0.0
