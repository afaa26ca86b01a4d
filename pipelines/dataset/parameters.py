"""What decides how videos are cut into clips. A change of any value starts a new generation of clips."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.media.face import SCALE

FORMAT = "1.0"
"""Version of the clip rows. An unknown major version is refused by readers."""


class ClipParameters(BaseModel):
    """How clips are cut. What is worth training on is decided later, by a selection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fps: int = Field(25, ge=10, le=60, description="frames per second of a clip; sources are read by time")
    size: int = Field(
        512,
        ge=64,
        le=2048,
        multiple_of=2,
        description="largest side of a stored crop, pixels; a smaller square keeps its own, never enlarged",
    )
    min_frames: int = Field(25, ge=4, description="shortest clip, frames")
    max_frames: int = Field(
        250, ge=8, description="longest clip, frames; a longer run is cut into equal parts"
    )
    min_fps: float = Field(8.0, gt=0, description="slowest source worth cutting, frames per second")
    span_s: float = Field(60.0, ge=2, description="seconds of a source that are cut in one go")
    track_step: int = Field(5, ge=1, le=25, description="frames between two looks for faces")
    crf: int = Field(18, ge=0, le=40, description="H.264 quality of the crops; 18 looks transparent")
    keyint: int = Field(
        12, ge=1, le=250, description="frames between key frames, so that few frames read fast"
    )
    sample_rate: int = Field(16_000, ge=16_000, le=16_000, description="Hz, mono; what speech encoders hear")

    @property
    def generation(self) -> str:
        """Name of the clips cut this way: 8 hexadecimal digits of everything that decides their bytes."""
        values = {**self.model_dump(), "format": FORMAT, "square_scale": SCALE}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
