"""The speech encoder, from sound and the lips that motion vectors tell of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from ifmdm_core.bundle import load_bundle
from ifmdm_core.errors import BadInput, Conflict
from ifmdm_core.provenance import sha256_of_file
from ifmdm_core.storage import S3Config
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.speech_crops import SpeechAugmentation
from ifmdm_core.training.speech_losses import SpeechLossWeights
from ifmdm_core.training.speech_statistics import SpeechStatistics
from ifmdm_core.training.speech_task import (
    SpeechModelConfig,
    SpeechTask,
    SpeechTaskConfig,
    new_speech_model,
    speech_model_from,
)
from ifmdm_core.training.task import BatchSource, TrainingTask
from pipelines.dataset.batch_items import Spoken
from pipelines.dataset.batches import StepBatches, sample_items
from pipelines.dataset.reader import MotionReader
from pipelines.training.config import TrainingConfig, anchored_model
from pipelines.training.data import Needs, open_reader
from pipelines.training.lip_map import fitted_lip_map, lip_map_of, require_same_motion_encoder
from pipelines.training.run import DataRecord
from pipelines.training.stage import Facts, Materials, Stage

STATISTICS, LIPS = "statistics.safetensors", "lips.safetensors"
START = "start-"
"""Files in the run's start folder; the files of a checkpoint to start from have that before their names."""
LIP_DIMS = 6
"""Measurements of a lip map that is fitted here."""


class SpeechConfiguration(TrainingConfig):
    """`ifmdm train speech`."""

    model: SpeechModelConfig = Field(SpeechModelConfig(), description="shape of the encoder")
    optimiser: OptimiserConfig = Field(OptimiserConfig(weight_decay=0.03, warmup=60), description="AdamW")
    losses: SpeechLossWeights = Field(SpeechLossWeights(), description="weights of the loss's terms")
    augmentation: SpeechAugmentation = Field(SpeechAugmentation(), description="what is done to recordings")
    reference: str | None = Field(
        None,
        description="'demo' or a bundle with the encoder that made the motion features: its lip map; null: one is "
        "fitted from pictures",
    )
    statistics_clips: int = Field(256, ge=1, description="clips that statistics are fitted on")

    def anchored(self) -> SpeechConfiguration:
        return (
            super().anchored().model_copy(update={"reference": anchored_model(self.reference, "reference")})
        )


class SpeechStage(Stage):
    """See the module."""

    name = "speech"
    config = SpeechConfiguration
    needs = Needs(motion=True)
    metric, mode = "lip_r", "max"
    result = "speech"

    def check(self, config: SpeechConfiguration, data: DataRecord, s3: S3Config | None) -> Facts:
        if config.reference is not None:
            require_same_motion_encoder(load_bundle(config.reference), config.reference, data)
        start = _start_folder(config)
        model = speech_model_from(start) if start else new_speech_model(config.model, config.fit.seed)
        if start is not None:
            _require_fit(model.config, config.model, start)
        parents = {"speech": sha256_of_file(start / "model.safetensors")} if start else {}
        return Facts({"speech": sum(p.numel() for p in model.parameters())}, parents)

    def prepare(self, materials: Materials) -> None:
        from safetensors.numpy import save_file

        config: SpeechConfiguration = materials.config
        reader = open_reader(materials.data, config.data, materials.s3)
        if config.reference is not None:
            lip_map, _ = lip_map_of(load_bundle(config.reference))
        else:
            lip_map, _ = fitted_lip_map(reader, LIP_DIMS, config.fit.seed, materials.say)
        save_file({"lip_map": lip_map.copy()}, materials.start / LIPS)
        materials.say(
            f"fitting statistics over at most {config.statistics_clips:,} clips, making synthetic speech"
        )
        sample = sample_items(reader, Spoken(lip_map), config.statistics_clips, config.fit.seed)
        SpeechStatistics.fit(sample, config.fit.seed).save(materials.start / STATISTICS)
        start = _start_folder(config)
        for path in sorted(start.iterdir()) if start else ():
            if path.suffix in (".json", ".safetensors"):
                shutil.copyfile(path, materials.start / f"{START}{path.name}")

    def source(self, materials: Materials) -> BatchSource:
        config: SpeechConfiguration = materials.config
        reader = open_reader(materials.data, config.data, materials.s3)
        return StepBatches(reader, _kind(materials), config.data.batch, config.fit.seed, config.data.threads)

    def task(self, materials: Materials, *, leads: bool) -> TrainingTask:
        config: SpeechConfiguration = materials.config
        statistics = SpeechStatistics.load(materials.start / STATISTICS)
        settings = SpeechTaskConfig(
            optimiser=config.optimiser, losses=config.losses, augmentation=config.augmentation
        )
        held_out = self._held_out(materials) if leads and config.fit.validate_steps else []
        return SpeechTask(_model(materials), statistics, settings, held_out=held_out, seed=config.fit.seed)

    def lineage(self, data: DataRecord) -> dict[str, str]:
        return {name: value for name, value in super().lineage(data).items() if name != "speech"}

    def _held_out(self, materials: Materials) -> list[Any]:
        config: SpeechConfiguration = materials.config
        if not materials.data.held_out:
            return []
        reader: MotionReader = open_reader(materials.data, config.data, materials.s3, held_out=True)
        return sample_items(reader, _kind(materials), config.data.validation_clips)


def _kind(materials: Materials) -> Spoken:
    from safetensors.numpy import load_file

    return Spoken(load_file(materials.start / LIPS)["lip_map"])


def _model(materials: Materials) -> Any:
    config: SpeechConfiguration = materials.config
    kept = sorted(materials.start.glob(f"{START}*"))
    if not kept:
        return new_speech_model(config.model, config.fit.seed)
    folder = materials.start / "speech"
    folder.mkdir(exist_ok=True)
    for path in kept:
        shutil.copyfile(path, folder / path.name.removeprefix(START))
    return speech_model_from(folder)


def _start_folder(config: SpeechConfiguration) -> Path | None:
    """The folder of the speech encoder to start from; raises BadInput when that is none."""
    if config.start.weights is not None:
        folder, where = Path(config.start.weights), "start.weights"
    elif config.start.bundle is not None:
        folder, where = load_bundle(config.start.bundle).folder / "speech", "start.bundle"
    else:
        return None
    if not (folder / "model.safetensors").is_file():
        raise BadInput(
            f"{where}: {folder} holds no model.safetensors",
            fix="give the speech folder that a training exported",
        )
    return folder


def _require_fit(found: Any, wanted: SpeechModelConfig, folder: Path) -> None:
    have = SpeechModelConfig(
        hidden=found.hidden_size, layers=found.num_hidden_layers, heads=found.num_attention_heads
    )
    for name, value in wanted.model_dump().items():
        if getattr(have, name) != value:
            raise Conflict(
                f"{folder} was trained with model.{name} {getattr(have, name)}, this training has {value}",
                fix=f"set model.{name} to {getattr(have, name)}, or start without it",
            )
