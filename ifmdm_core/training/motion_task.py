"""Stage 2 from whole clips' features (paper 3.3): windows drawn on the fly, the motion generator learns them.

    statistics = fit_motion_statistics(((c.motion, c.speech) for c in sample), config, lip_map, lip_bias)
    task = MotionTask(new_motion_generator(config, seed=0), statistics, held_out=HeldOutClips(clips), seed=0)
    fit(task, ListSource(clips, size=32), FitSettings(steps=1000), FolderKeeper("work/stage2"))

Items are `ClipFeatures`. The statistics belong to the weights: a resumed training must be given the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.diffusion import alphas_cumprod
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.loop import LoopState, sample_rng, set_lr
from ifmdm_core.training.motion_look import HeldOutClips, look
from ifmdm_core.training.motion_loss import MotionLossWeights, motion_loss
from ifmdm_core.training.motion_statistics import LossScales, MotionStatistics
from ifmdm_core.training.motion_windows import Augmentation, MotionBatch, Quiet, WindowMaker, stack_windows
from ifmdm_core.training.optimiser import OptimiserConfig, in_parts, optimise
from ifmdm_core.training.task import Share, TrainingTask, Validation
from ifmdm_core.training.world import World
from ifmdm_core.weights import save_weights


class MotionTaskConfig(BaseModel):
    """How stage 2 is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="AdamW")
    losses: MotionLossWeights = Field(MotionLossWeights(), description="weights of the loss's terms")
    augmentation: Augmentation = Field(Augmentation(), description="what is done to windows")
    controls: RenderControls = Field(
        RenderControls(),
        description="sampler, steps, guidance of the samples that held-out figures come from",
    )


def new_motion_generator(config: MotionConfig, seed: int) -> MotionGenerator:
    """Random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MotionGenerator(config)


class MotionObjective(nn.Module):
    """The generator with its loss, so that both are inside what processes share gradients of."""

    def __init__(self, model: MotionGenerator, scales: LossScales, weights: MotionLossWeights) -> None:
        super().__init__()
        self.model, self.scales, self.weights = model, scales, weights
        self.alphas: Tensor
        self.register_buffer("alphas", alphas_cumprod(model.config), persistent=False)

    def forward(self, part: tuple[MotionBatch, Tensor]) -> dict[str, Tensor]:
        """Figures of some windows, divided by the new frames [] of the whole step."""
        batch, frames = part
        return motion_loss(self.model, batch, self.alphas, self.scales, self.weights, frames)


class MotionTask(TrainingTask):
    """One stage 2 training.

    Args:
        model: starts from these weights; it is trained in place, with the statistics put in.
        statistics: of the training clips; `quiet` in them turns on the augmentation by silence.
        held_out: clips that are looked at now and then; without, `validate` gives nothing.
        seed: of everything random; the same as the loop's.

    Raises:
        BadInput: statistics of another shape than the model.
    """

    title = "stage 2"

    def __init__(
        self,
        model: MotionGenerator,
        statistics: MotionStatistics,
        config: MotionTaskConfig | None = None,
        *,
        held_out: HeldOutClips | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config or MotionTaskConfig()
        self.model, self.held_out, self.seed = model, held_out, seed
        self.world, self.device = World(), torch.device("cpu")
        statistics.fill(model)
        self.scales = statistics.scales
        self.optimizer = self.config.optimiser.adamw(model.parameters())
        self.modules: dict[str, nn.Module] = {"motion": model}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"adamw": self.optimizer}
        self.averaged = model
        quiet = None
        if statistics.quiet is not None:
            lip_map = statistics.tensors["lip_map"].numpy()
            quiet = Quiet(statistics.quiet, lip_map, statistics.completion)
        self._maker = WindowMaker(model, self.config.augmentation, quiet)
        self.objective = MotionObjective(model, self.scales, self.config.losses)
        self._wrapped: nn.Module = self.objective

    def distribute(self, world: World, device: torch.device) -> None:
        self.world, self.device = world, device
        self.objective.to(device)
        self._wrapped = world.wrap(self.objective, device)

    def collate(self, share: Share) -> list[MotionBatch]:
        """The share's windows in parts of nearly equal length.

        Raises BadInput when a clip's speech is of another width than the model's, or there are too few clips.
        """
        least, most = self._maker.lengths(self.seed, share.step)
        batches = []
        for part in in_parts(share.items, self.config.optimiser.accumulate):
            rows = []
            for number, clip in part:
                if clip.speech.shape[1] != self.model.config.speech_dim:
                    raise BadInput(
                        f"clip {clip.clip_id} has {clip.speech.shape[1]} speech features a frame, the model hears "
                        f"{self.model.config.speech_dim}",
                        fix="set speech_dim of the model, or choose other speech features",
                    )
                rng = sample_rng(self.seed, share.step, number)
                silent = bool(rng.random() < self.config.augmentation.silence)
                row = self._maker.draw(rng, clip.motion, clip.speech, least, most, silent)
                if self.model.config.dropout:
                    row["kept"] = self._maker.draw_dropout(rng)
                rows.append(row)
            batch = stack_windows(rows, 1 - self.model.config.dropout)
            batches.append(batch.pinned() if self.device.type == "cuda" else batch)
        return batches

    def step(self, state: LoopState, batch: list[MotionBatch]) -> Mapping[str, Tensor]:
        """Figures: `loss`, its terms `base`, `velocity`, `lips`, `lip_velocity`, and `grad_norm`."""
        self.model.train()
        set_lr(self.optimizer, self.config.optimiser.rate(state))
        parts = [part.to(self.device) for part in batch]
        frames = self.world.sum(torch.stack([part.new_frames() for part in parts]).sum())
        counted = [(part, frames) for part in parts]
        return optimise(
            self._wrapped, counted, self.optimizer, self.config.optimiser, self.world, self.device
        )

    def validate(self, step: int, folder: Path) -> Validation:
        """Figures, a table and videos (`motion_look.look`)."""
        if self.held_out is None:
            return Validation({})
        return look(self.model, self.held_out, self.scales, self.config.losses, folder, self.config.controls)

    def export(self, path: Path, lineage: Mapping[str, str]) -> None:
        """Half precision, as bundles hold it.

        Raises BadInput when the lineage does not name the motion encoder: no bundle would take the weights.
        """
        if "encoder" not in lineage:
            raise BadInput(
                "the lineage of a motion generator lacks 'encoder'",
                fix="name the digest of the encoder that made its motion",
            )
        save_weights(path, self.model, self.model.config, lineage)
