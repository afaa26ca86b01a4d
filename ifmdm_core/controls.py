"""What a user may ask of a render: one frozen, validated record shared by every surface."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Pose = Literal["hold", "evolve", "free"] | Fraction
FaceBox = tuple[int, int, int, int]
FaceChoice = Literal["auto", "none"] | Annotated[int, Field(ge=0)] | FaceBox


class RenderControls(BaseModel):
    """Controls of one render (paper 3.4, and ours: seed, sampler, framing).

    Text from a command line or a form is accepted for `pose` ("0.5"), `intensity` ("none") and `face`
    ("2", "10,20,200,200"). An invalid value raises `pydantic.ValidationError`, a `ValueError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pose: Pose = Field(
        0.5,
        description="mean head pose of a window: hold the portrait's (0), follow the last window's (1), free",
    )
    intensity: Fraction | None = Field(
        0.3,
        description="strength of motion, 0..1; 0.3 is the training set's median clip; None leaves it open",
    )
    steps: int = Field(8, ge=1, le=1000, description="denoising steps per window")
    sampler: Literal["ddim", "dpm++", "ddpm"] = Field("dpm++", description="diffusion sampler")
    guidance: float = Field(2.0, ge=0.0, le=20.0, description="classifier-free guidance on speech; 1 is none")
    statistics_guidance: float = Field(
        1.0, ge=0.0, le=20.0, description="guidance on pose and intensity; 1 is none"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="same inputs and seed, same motion")
    size: int | None = Field(
        None,
        ge=64,
        le=2048,
        multiple_of=2,
        description="side of the square output in pixels; None is the model's",
    )
    fps: int = Field(25, ge=1, le=120, description="frames per second of the output")
    face: FaceChoice = Field(
        "auto",
        description="auto: the largest face; N: the N-th largest from 0; none: the whole photo; x,y,w,h",
    )
    paste_back: bool = Field(False, description="paste the face back into the whole photo")

    @field_validator("pose", "intensity", mode="before")
    @classmethod
    def _number_from_text(cls, value: Any) -> Any:
        """ "0.5" -> 0.5, "none" -> None; words stay for the field's own check."""
        if not isinstance(value, str):
            return value
        text = value.strip().lower()
        if text == "none":
            return None
        try:
            return float(text)
        except ValueError:
            return text

    @field_validator("face", mode="before")
    @classmethod
    def _face_from_text(cls, value: Any) -> Any:
        """ "2" -> 2, "10,20,200,200" -> (10, 20, 200, 200)."""
        if not isinstance(value, str):
            return value
        text = value.strip().lower()
        parts = text.split(",")
        try:
            numbers = tuple(int(part) for part in parts)
        except ValueError:
            return text
        return numbers[0] if len(numbers) == 1 else numbers

    @field_validator("face")
    @classmethod
    def _face_box_has_area(cls, value: FaceChoice) -> FaceChoice:
        if isinstance(value, tuple) and (value[2] <= 0 or value[3] <= 0):
            raise ValueError(f"a face box is x,y,w,h with w and h above 0, not {value}")
        return value
