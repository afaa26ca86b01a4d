"""Shape of the motion generator."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOTION_DIM = 20
"""Numbers in a motion vector (paper 3.2)."""


class MotionConfig(BaseModel):
    """What a motion generator is made of; stored in the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speech_dim: int = Field(gt=0, description="width of the speech features")
    width: int = Field(gt=0, description="hidden width d")
    depth: int = Field(gt=0, description="transformer blocks")
    heads: int = Field(gt=0, description="attention heads; width / heads is even (rotary positions)")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over d")
    prediction: Literal["sample", "epsilon"] = Field(
        description="what the network predicts: clean z or the noise"
    )
    window: int = Field(gt=0, description="frames of one diffusion call, context included")
    context: int = Field(ge=0, description="frames carried over from what is already there")
    overlap: int = Field(
        ge=0, description="last frames of a window that the next one predicts again, blended"
    )
    min_window: int = Field(
        16, gt=0, description="shortest window in training; shorter ones are padded to it"
    )
    timesteps: int = Field(1000, gt=1, description="diffusion steps T in training")
    beta_start: float = Field(1e-4, gt=0, description="noise variance of the first step; linear to the last")
    beta_end: float = Field(2e-2, gt=0, description="noise variance of the last step")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of each residual branch dropped in training")
    lip_dim: int = Field(6, gt=0, description="rows of the linear map from motion to lip measurements")

    @model_validator(mode="after")
    def _fits(self) -> MotionConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} over heads {self.heads} is not an even number")
        if self.context + self.overlap >= self.window:
            raise ValueError(
                f"window {self.window} has no room beside context {self.context}, overlap {self.overlap}"
            )
        return self

    @property
    def stride(self) -> int:
        """New finished frames a full window adds."""
        return self.window - self.context - self.overlap

    @classmethod
    def preset(cls, name: Literal["demo", "paper"], speech_dim: int | None = None) -> MotionConfig:
        """`demo`: about 3 M parameters, predicts z; `paper`: d 512, 8 layers, predicts the noise (paper 4.1)."""
        if name == "demo":
            return cls(
                speech_dim=speech_dim or 256, width=192, depth=5, heads=6, mlp_ratio=3.0, prediction="sample",
                window=50, context=10, overlap=4,
            )  # fmt: skip
        if name == "paper":
            return cls(
                speech_dim=speech_dim or 768, width=512, depth=8, heads=8, mlp_ratio=4.0, prediction="epsilon",
                window=80, context=10, overlap=4,
            )  # fmt: skip
        raise ValueError(f"no motion preset {name!r}; valid: demo, paper")
