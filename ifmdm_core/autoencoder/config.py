"""The size of the stage 1 network."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Preset = Literal["demo", "paper"]


class AutoencoderConfig(BaseModel):
    """Channels and resolutions of encoder and generator. All sides are in pixels, powers of two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(256, ge=32)
    """Side of the square picture."""
    stem_stride: Literal[1, 2] = 2
    """Stride of the first convolution: 1 keeps a feature level at full size (paper), 2 saves a CPU's time."""
    encoder_channels: tuple[int, ...] = (24, 48, 96, 160, 192)
    """Channels of the encoder's levels, finest first; each level halves the side."""
    extra_convs: tuple[bool, ...] = (False, False, True, True, True)
    """Whether a level has a residual convolution after the one that halves it."""
    latent_dim: int = 256
    """Length of the appearance latent w, and of motion once mapped into its space."""
    motion_dim: int = 20
    """Numbers per frame (paper 3.2)."""
    motion_size: int = 128
    """Side at which the motion encoder looks at the picture."""
    motion_channels: tuple[int, ...] = (24, 48, 96, 160, 192)
    """Channels of the motion encoder's levels, each halving the side."""
    part_channels: tuple[int, ...] = (32, 64, 128, 160)
    """Channels of the mouth's and the eyes' networks, each level halving the close-up."""
    flow_size: int = 64
    """Side of the flow fields."""
    pose_fields: int = 16
    """Flow fields applied first: whole-head motion."""
    expression_fields: int = 32
    """Flow fields applied on top, in the head's own coordinates."""
    field_channels: int = 32
    """Width of the network that draws the flow fields, once per identity."""
    generator_channels: tuple[int, ...] = (64, 48, 24)
    """Width of the painting levels, coarsest first; the finest is half the picture's side."""

    @model_validator(mode="after")
    def _sides_fit(self) -> AutoencoderConfig:
        if len(self.extra_convs) != len(self.encoder_channels):
            raise ValueError("extra_convs must have one entry for each of encoder_channels")
        if self.size // 2 ** len(self.generator_channels) not in self.encoder_sides:
            raise ValueError(
                f"generator_channels has {len(self.generator_channels)} levels, so painting would start at "
                f"{self.size // 2 ** len(self.generator_channels)} pixels, where the encoder has no features"
            )
        if self.motion_size >> len(self.motion_channels) < 2:
            raise ValueError(f"motion_channels has too many levels for motion_size {self.motion_size}")
        if self.flow_size not in self.encoder_sides or self.encoder_sides[-1] < 4:
            raise ValueError(
                f"flow_size must be one of the encoder's sides {self.encoder_sides}, all at least 4"
            )
        return self

    @property
    def encoder_sides(self) -> tuple[int, ...]:
        """Side of each encoder level, finest first."""
        first = self.size // self.stem_stride
        return tuple(first // 2**level for level in range(len(self.encoder_channels)))

    @classmethod
    def preset(cls, name: Preset) -> AutoencoderConfig:
        """`demo`: 256 pixels, a few million parameters, real time on two CPU cores. `paper`: 512 pixels."""
        if name == "demo":
            return cls()
        return cls(
            size=512,
            stem_stride=1,
            encoder_channels=(32, 64, 128, 256, 512, 512, 512, 512),
            extra_convs=(True,) * 8,
            latent_dim=512,
            motion_size=256,
            motion_channels=(32, 64, 128, 256, 512, 512),
            flow_size=128,
            pose_fields=32,
            expression_fields=64,
            field_channels=96,
            generator_channels=(384, 256, 128, 64),
        )
