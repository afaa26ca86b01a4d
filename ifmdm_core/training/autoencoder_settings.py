"""What stage 1 is trained for and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.picture_losses import PictureWeights


class AdversaryConfig(BaseModel):
    """Patch discriminators of the whole picture and the mouth; worth their price on a GPU, late in a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_step: int = Field(ge=0, description="first step that they take part in")
    weight: float = Field(0.02, gt=0, description="of their judgement in the generator's loss")
    lr: float = Field(2e-4, gt=0, description="their learning rate, constant")


class AutoencoderTaskConfig(BaseModel):
    """What stage 1 is trained for and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Literal["all", "generator"] = Field(
        "all",
        description="all: the motion encoder too, which makes a new kind of motion vectors; generator: all but it",
    )
    losses: PictureWeights = PictureWeights()
    perceptual: Path | None = Field(
        None, description="VGG19 features as safetensors, for the perceptual loss; null: none"
    )
    adversary: AdversaryConfig | None = Field(None, description="null: no discriminators")
    augmentation: bool = Field(
        True, description="random framing and colours, the same for both frames of a pair"
    )
    optimiser: OptimiserConfig = OptimiserConfig(lr=6e-4, weight_decay=0.03, betas=(0.9, 0.99))

    @classmethod
    def preset(cls, name: Literal["demo", "paper"], steps: int) -> AutoencoderTaskConfig:
        """`demo`: guided by meshes, no discriminators. `paper`: discriminators in the last third, no meshes; bf16."""
        if name == "demo":
            return cls()
        return cls(
            losses=PictureWeights(mesh=0.0),
            adversary=AdversaryConfig(from_step=2 * steps // 3),
            optimiser=OptimiserConfig(
                lr=2e-4, warmup=1000, weight_decay=0.03, betas=(0.9, 0.99), precision="bf16"
            ),
        )
