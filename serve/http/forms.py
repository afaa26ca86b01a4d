"""The form of a render, field by field, as OpenAPI shows it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from ifmdm_core.config import validate
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput

FACE = r"^(auto|none|[0-9]{1,4}|[0-9]{1,6}(,[0-9]{1,6}){3})$"
Upload = Annotated[UploadFile | None, WithJsonSchema({"type": "string", "format": "binary"})]
Number = Annotated[float | None, Field(ge=0, le=20)]
CONSENT = Field(
    None, max_length=500, description="reference to the shown person's consent, kept in the video's record"
)


class ControlsForm(BaseModel):
    """`RenderControls` as form fields; what is left out keeps its default."""

    model_config = ConfigDict(extra="forbid")

    controls: str | None = Field(
        None, max_length=10_000, description="all of them as JSON; single fields override it",
        examples=['{"pose": "hold", "seed": 3}'],
    )  # fmt: skip
    pose: str | None = Field(
        None, pattern=r"^(hold|evolve|free|0(\.[0-9]{1,9})?|1(\.0{1,9})?)$",
        description="mean head pose: hold, evolve, free, or a number 0 to 1", examples=["0.5"],
    )  # fmt: skip
    intensity: str | None = Field(
        None, pattern=r"^(none|0(\.[0-9]{1,9})?|1(\.0{1,9})?)$", description="strength of motion, 0 to 1, or none",
        examples=["0.3"],
    )  # fmt: skip
    steps: int | None = Field(None, ge=1, le=1000, description="denoising steps per window")
    sampler: Literal["ddim", "dpm++", "ddpm"] | None = Field(None, description="diffusion sampler")
    guidance: Number = Field(None, description="guidance on speech; 1 is none")
    statistics_guidance: Number = Field(None, description="guidance on pose and intensity; 1 is none")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="same inputs and seed, same motion")
    size: int | None = Field(None, ge=64, le=2048, multiple_of=2, description="side of the output in pixels")
    fps: int | None = Field(None, ge=1, le=120, description="frames per second of the output")
    face: str | None = Field(None, pattern=FACE, description="auto, none, N-th largest from 0, or x,y,w,h")
    paste_back: bool | None = Field(None, description="paste the face back into the whole photo")

    def to_controls(self) -> RenderControls:
        """The controls that are meant. Raises BadInput naming the field."""
        values: dict[str, Any] = {}
        if self.controls is not None:
            try:
                values = json.loads(self.controls)
            except (json.JSONDecodeError, RecursionError) as error:
                raise BadInput(f"controls is no JSON: {error}") from None
            if not isinstance(values, dict):
                raise BadInput("controls is no JSON object", fix='write {"pose": "hold"}')
        single = {name: getattr(self, name) for name in RenderControls.model_fields}
        values |= {name: value for name, value in single.items() if value is not None}
        return validate(RenderControls, values, where="controls")


class RenderForm(ControlsForm):
    """What POST /v1/render takes."""

    portrait: Upload = Field(None, description="a picture with a face")
    portrait_uri: str | None = Field(None, max_length=2000, description="or where it is: s3://…, a path")
    identity: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="or a registered portrait")
    audio: Upload = Field(None, description="speech, any common format")
    audio_uri: str | None = Field(None, max_length=2000, description="or where it is: s3://…, a path")
    model: str | None = Field(None, max_length=200, description="name of a served model")
    consent: str | None = CONSENT
    delivery: Literal["stream", "file"] = Field(
        "stream", description="the video while it is made, or the address of the signed file once it is"
    )


class IdentityForm(BaseModel):
    """What POST /v1/identities takes."""

    model_config = ConfigDict(extra="forbid")

    portrait: Upload = Field(None, description="a picture with a face")
    portrait_uri: str | None = Field(None, max_length=2000, description="or where it is: s3://…, a path")
    face: str | None = Field(None, pattern=FACE, description="auto, none, N-th largest from 0, or x,y,w,h")
    paste_back: bool | None = Field(None, description="keep the whole photo, to paste the face back into it")
    consent: str | None = CONSENT
