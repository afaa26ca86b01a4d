"""Stage 1: an autoencoder from the pictures of a dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.storage import S3Config
from ifmdm_core.training.autoencoder_look import HeldOut
from ifmdm_core.training.autoencoder_settings import AdversaryConfig, AutoencoderTaskConfig
from ifmdm_core.training.autoencoder_task import AutoencoderTask, new_autoencoder
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.picture_losses import PictureWeights
from ifmdm_core.training.task import BatchSource, TrainingTask
from ifmdm_core.weights import read_weights
from pipelines.dataset.batch_items import Pairs
from pipelines.dataset.batches import StepBatches, sample_items
from pipelines.training.config import TrainingConfig, anchored_model
from pipelines.training.data import Needs, open_reader
from pipelines.training.held_out import Driving
from pipelines.training.presets import expanded
from pipelines.training.run import DataRecord
from pipelines.training.stage import Facts, Materials, Stage
from pipelines.training.warm_start import StartWeights, copy_into, find_start, parameters

WEIGHTS, PERCEPTUAL = "weights.safetensors", "perceptual.safetensors"
"""Files in the run's start folder."""


class AutoencoderConfiguration(TrainingConfig):
    """`ifmdm train autoencoder`."""

    model: AutoencoderConfig = Field(description="`preset: demo` or `paper`, and what differs from it")
    train: Literal["all", "generator"] = Field(
        "all",
        description="all: the motion encoder too, which makes a new kind of motion vectors; generator: all but it, so "
        "that motion features and motion generators stay valid",
    )
    optimiser: OptimiserConfig = Field(
        OptimiserConfig(lr=6e-4, weight_decay=0.03, betas=(0.9, 0.99)), description="AdamW"
    )
    losses: PictureWeights = Field(PictureWeights(), description="weights of the loss's terms")
    perceptual: str | None = Field(
        None, description="VGG19 features as safetensors; null: no perceptual loss"
    )
    adversary: AdversaryConfig | None = Field(None, description="discriminators; null: none")
    augmentation: bool = Field(
        True, description="random framing and colours, the same for both frames of a pair"
    )
    video: bool = Field(True, description="whether a held-out clip is shown as a video")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return expanded(values, AutoencoderConfig.preset)

    @model_validator(mode="after")
    def _has_an_encoder(self) -> AutoencoderConfiguration:
        if self.train == "generator" and not (self.start.bundle or self.start.weights):
            raise ValueError(
                "train: generator holds the motion encoder still: give start.bundle or start.weights"
            )
        return self

    def anchored(self) -> AutoencoderConfiguration:
        return (
            super()
            .anchored()
            .model_copy(update={"perceptual": anchored_model(self.perceptual, "perceptual")})
        )

    def task(self, perceptual: Path | None = None) -> AutoencoderTaskConfig:
        """As the task takes it."""
        return AutoencoderTaskConfig(
            train=self.train, losses=self.losses, perceptual=perceptual, adversary=self.adversary,
            augmentation=self.augmentation, optimiser=self.optimiser,
        )  # fmt: skip


class AutoencoderStage(Stage):
    """See the module."""

    name = "autoencoder"
    config = AutoencoderConfiguration
    needs = Needs()
    metric, mode = "psnr_db", "max"
    result = "autoencoder.safetensors"

    def check(self, config: AutoencoderConfiguration, data: DataRecord, s3: S3Config | None) -> Facts:
        start = self._start(config)
        if start is not None:
            start.require_fit(config.model, "autoencoder")
        if config.perceptual is not None:
            _require_perceptual(Path(config.perceptual))
        if config.adversary is not None and config.adversary.from_step >= config.fit.steps:
            raise BadInput(
                f"adversary.from_step is {config.adversary.from_step}, and fit.steps {config.fit.steps}",
                fix="begin earlier, or leave adversary out",
            )
        numbers = {"autoencoder": parameters(Autoencoder, config.model)}
        return Facts(numbers, {"autoencoder": start.digest} if start else {})

    def prepare(self, materials: Materials) -> None:
        config: AutoencoderConfiguration = materials.config
        copy_into(self._start(config), materials.start / WEIGHTS)
        if config.perceptual is not None:
            shutil.copyfile(config.perceptual, materials.start / PERCEPTUAL)

    def source(self, materials: Materials) -> BatchSource:
        config: AutoencoderConfiguration = materials.config
        reader = open_reader(materials.data, config.data, materials.s3)
        kind = Pairs(config.model.size)
        return StepBatches(reader, kind, config.data.batch, config.fit.seed, config.data.threads)

    def task(self, materials: Materials, *, leads: bool) -> TrainingTask:
        config: AutoencoderConfiguration = materials.config
        model = new_autoencoder(config.model, config.fit.seed)
        if (materials.start / WEIGHTS).is_file():
            model.load_state_dict(read_weights(materials.start / WEIGHTS)[0])
        perceptual = materials.start / PERCEPTUAL
        settings = config.task(perceptual if perceptual.is_file() else None)
        held_out = self._held_out(materials) if leads and config.fit.validate_steps else None
        return AutoencoderTask(model, settings, held_out=held_out, seed=config.fit.seed)

    def _held_out(self, materials: Materials) -> HeldOut | None:
        config: AutoencoderConfiguration = materials.config
        if not materials.data.held_out:
            return None
        reader = open_reader(materials.data, config.data, materials.s3, held_out=True)
        pairs = sample_items(reader, Pairs(config.model.size), config.data.validation_clips)
        driving = sample_items(reader, Driving(config.model.size), 1) if config.video else []
        return HeldOut(pairs, driving[0] if driving else None)

    def _start(self, config: AutoencoderConfiguration) -> StartWeights | None:
        return find_start(config.start, self.result)


def _require_perceptual(path: Path) -> None:
    """Raises what reading the perceptual weights raises: better now than in every worker."""
    from ifmdm_core.autoencoder.perceptual import PerceptualLoss

    if not path.is_file():
        raise NotFound(
            f"perceptual: {path} is no file", fix="give VGG19 weights as safetensors, or leave it out"
        )
    PerceptualLoss(path)
