"""Stage 2: a motion generator from the motion vectors and speech features of a dataset."""

from __future__ import annotations

import shutil
from typing import Any

from pydantic import Field, model_validator

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig
from ifmdm_core.bundle import Bundle, load_bundle
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Conflict
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.storage import S3Config
from ifmdm_core.training.motion_look import HeldOutClips
from ifmdm_core.training.motion_loss import MotionLossWeights
from ifmdm_core.training.motion_statistics import MotionStatistics, fit_motion_statistics
from ifmdm_core.training.motion_task import MotionTask, MotionTaskConfig, new_motion_generator
from ifmdm_core.training.motion_windows import Augmentation
from ifmdm_core.training.quiet import quiet_features
from ifmdm_core.training.task import BatchSource, TrainingTask
from ifmdm_core.weights import load_network, read_weights
from pipelines.dataset.batch_items import Features
from pipelines.dataset.batches import StepBatches, sample_items
from pipelines.features.encoders import speech_identity
from pipelines.training.config import TrainingConfig, anchored_model
from pipelines.training.data import Needs, open_reader
from pipelines.training.held_out import Shown
from pipelines.training.lip_map import fitted_lip_map, lip_map_of, require_same_motion_encoder
from pipelines.training.presets import expanded
from pipelines.training.run import DataRecord
from pipelines.training.stage import Facts, Materials, Stage
from pipelines.training.warm_start import StartWeights, copy_into, find_start, parameters

STATISTICS, DECODER, WEIGHTS = "statistics.safetensors", "decoder.safetensors", "weights.safetensors"
"""Files in the run's start folder."""


class MotionConfiguration(TrainingConfig):
    """`ifmdm train motion`."""

    model: MotionConfig = Field(description="`preset: demo` or `paper`, and what differs from it")
    losses: MotionLossWeights = Field(MotionLossWeights(), description="weights of the loss's terms")
    augmentation: Augmentation = Field(Augmentation(), description="what is done to windows")
    controls: RenderControls = Field(RenderControls(), description="of samples on held-out clips")
    reference: str | None = Field(
        None,
        description="'demo' or a bundle with the encoders that made the features: its lip map, its decoder for "
        "sample videos, its speech encoder for how silence sounds; null: the lip map is fitted from pictures, the rest "
        "is left out",
    )
    statistics_clips: int = Field(512, ge=1, description="clips that statistics are fitted on")
    videos: int = Field(1, ge=0, description="held-out clips shown as videos")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return expanded(values, MotionConfig.preset)

    def anchored(self) -> MotionConfiguration:
        return (
            super().anchored().model_copy(update={"reference": anchored_model(self.reference, "reference")})
        )


class MotionStage(Stage):
    """See the module."""

    name = "motion"
    config = MotionConfiguration
    needs = Needs(speech=True, motion=True)
    metric, mode = "heldout_loss", "min"
    result = "motion.safetensors"

    def check(self, config: MotionConfiguration, data: DataRecord, s3: S3Config | None) -> Facts:
        reader = open_reader(data, config.data, s3)
        heard = reader.features("speech").dim
        if heard != config.model.speech_dim:
            raise BadInput(
                f"model.speech_dim is {config.model.speech_dim}, and speech/{data.speech} of {data.dataset} has "
                f"{heard} numbers a frame",
                fix=f"set model.speech_dim={heard}, or choose other features with data.speech",
            )
        start = self._start(config)
        if start is not None:
            start.require_fit(config.model, "motion")
            start.require_encoder(start.lineage.get("encoder"), data.motion_encoder, f"motion/{data.motion}")
        if config.reference is not None:
            _require_same_encoders(load_bundle(config.reference), config.reference, data, reader.generation)
        facts = {"motion": parameters(MotionGenerator, config.model)}
        return Facts(facts, {"motion": start.digest} if start else {})

    def prepare(self, materials: Materials) -> None:
        config: MotionConfiguration = materials.config
        reader = open_reader(materials.data, config.data, materials.s3)
        materials.say(f"fitting statistics over at most {config.statistics_clips:,} clips")
        clips = sample_items(reader, Features(), config.statistics_clips, config.fit.seed)
        bundle = load_bundle(config.reference) if config.reference else None
        if bundle is not None:
            lip_map, lip_bias = lip_map_of(bundle)
        else:
            lip_map, lip_bias = fitted_lip_map(reader, config.model.lip_dim, config.fit.seed, materials.say)
        statistics = fit_motion_statistics(
            ((c.motion, c.speech) for c in clips), config.model, lip_map, lip_bias
        )
        if bundle is not None:
            statistics = statistics.with_quiet(quiet_features(bundle.speech_encoder()))
            shutil.copyfile(bundle.folder / "autoencoder.safetensors", materials.start / DECODER)
        statistics.save(materials.start / STATISTICS)
        copy_into(self._start(config), materials.start / WEIGHTS)

    def source(self, materials: Materials) -> BatchSource:
        config: MotionConfiguration = materials.config
        reader = open_reader(materials.data, config.data, materials.s3)
        return StepBatches(reader, Features(), config.data.batch, config.fit.seed, config.data.threads)

    def task(self, materials: Materials, *, leads: bool) -> TrainingTask:
        config: MotionConfiguration = materials.config
        model = new_motion_generator(config.model, config.fit.seed)
        if (materials.start / WEIGHTS).is_file():
            model.load_state_dict(read_weights(materials.start / WEIGHTS)[0])
        settings = MotionTaskConfig(
            optimiser=config.optimiser, losses=config.losses, augmentation=config.augmentation,
            controls=config.controls,
        )  # fmt: skip
        statistics = MotionStatistics.load(materials.start / STATISTICS)
        held_out = self._held_out(materials) if leads and config.fit.validate_steps else None
        return MotionTask(model, statistics, settings, held_out=held_out, seed=config.fit.seed)

    def _held_out(self, materials: Materials) -> HeldOutClips | None:
        config: MotionConfiguration = materials.config
        if not materials.data.held_out:
            return None
        reader = open_reader(materials.data, config.data, materials.s3, held_out=True)
        clips = sample_items(reader, Features(), config.data.validation_clips)
        decoder = None
        shown = []
        if (materials.start / DECODER).is_file() and config.videos:
            decoder = load_network(materials.start / DECODER, AutoencoderConfig, Autoencoder)
            shown = sample_items(reader, Shown(decoder.config.size), config.videos)
        return HeldOutClips(clips, shown, decoder)

    def _start(self, config: MotionConfiguration) -> StartWeights | None:
        return find_start(config.start, "motion.safetensors")


def _require_same_encoders(bundle: Bundle, name: str, data: DataRecord, generation: str) -> None:
    """Raises Conflict when the features were made by other encoders than the bundle's."""
    require_same_motion_encoder(bundle, name, data)
    wanted = speech_identity(name).digest(generation)
    if wanted != data.speech:
        raise Conflict(
            f"reference: the speech encoder of {name} makes speech/{wanted}, the run is to read speech/{data.speech}",
            fix="give the bundle that made the features, or other features with data.speech",
        )
