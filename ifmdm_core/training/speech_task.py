"""The speech encoder from clips with sound and motion: features that hold lips (docs/model-card.md).

    statistics = SpeechStatistics.fit(sample)
    task = SpeechTask(new_speech_model(SpeechModelConfig(), seed=0), statistics, held_out=clips, seed=0)
    fit(task, ListSource(clips, size=16), FitSettings(steps=2000), FolderKeeper("work/speech"))

Items are `SpokenClip`s: lips are what the lip map sees in their motion, so nothing is labelled by hand or by another
network than the motion encoder. The statistics belong to the run: a resumed training must be given the same.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ifmdm_core.errors import BadInput, Unsupported
from ifmdm_core.metrics.lips import correlation
from ifmdm_core.speech import SpeechEncoder, normalise
from ifmdm_core.training.items import SpokenClip
from ifmdm_core.training.loop import LoopState, sample_rng, set_lr
from ifmdm_core.training.optimiser import OptimiserConfig, in_parts, optimise
from ifmdm_core.training.speech_babble import VISEMES
from ifmdm_core.training.speech_crops import CropMaker, SpeechAugmentation, SpeechBatch
from ifmdm_core.training.speech_dropout import SampleDropout
from ifmdm_core.training.speech_export import export_speech
from ifmdm_core.training.speech_losses import SpeechLossWeights, cluster_sum, lip_sums, total, viseme_sums
from ifmdm_core.training.speech_model import RECEPTIVE, STRIDE, SpeechHeads, demo_model, tokens_to_frames
from ifmdm_core.training.speech_statistics import SpeechStatistics
from ifmdm_core.training.task import Share, TrainingTask, Validation
from ifmdm_core.training.world import World


class SpeechModelConfig(BaseModel):
    """Shape of the encoder's transformer; its front end is `speech_model.demo_model`'s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(256, gt=0, multiple_of=16, description="width of the features")
    layers: int = Field(4, gt=0, description="transformer layers")
    heads: int = Field(4, gt=0, description="attention heads; they divide the width")


class SpeechTaskConfig(BaseModel):
    """How the speech encoder is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: OptimiserConfig = Field(OptimiserConfig(weight_decay=0.03, warmup=60), description="AdamW")
    losses: SpeechLossWeights = Field(SpeechLossWeights(), description="weights of the loss's terms")
    augmentation: SpeechAugmentation = Field(SpeechAugmentation(), description="what is done to recordings")


def new_speech_model(config: SpeechModelConfig, seed: int) -> Any:
    """A `Wav2Vec2Model` with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return demo_model(config.hidden, config.layers, config.heads)


def speech_model_from(folder: str | Path) -> Any:
    """The `Wav2Vec2Model` in a folder that `SpeechTask.export` wrote, to train it further.

    Raises what `SpeechEncoder.load` raises, and Unsupported for a front end with other tokens than ours.
    """
    encoder = SpeechEncoder.load(folder)
    if (encoder.stride, encoder.receptive) != (STRIDE, RECEPTIVE):
        raise Unsupported(
            f"{folder} has tokens of {encoder.receptive} samples every {encoder.stride}, "
            f"this training reads {RECEPTIVE} every {STRIDE}",
            fix="start from a speech encoder that this training made; others are used as they are",
        )
    return encoder.model.requires_grad_(True)


class SpeechObjective(nn.Module):
    """Encoder, heads and loss, so that all are inside what processes share gradients of."""

    def __init__(
        self,
        model: Any,
        heads: SpeechHeads,
        dropout: SampleDropout,
        speeds: Tensor,
        losses: SpeechLossWeights,
    ) -> None:
        super().__init__()
        self.model, self.heads, self._dropout, self._losses = model, heads, dropout, losses
        self.speeds: Tensor
        self.weights: Tensor
        self.register_buffer("speeds", speeds.clone(), persistent=False)
        rest = max(1, len(speeds) - 1)  # the opening, which comes first, counts most
        weights = torch.tensor([0.4] + [0.6 / rest] * (len(speeds) - 1))
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    def forward(self, part: tuple[SpeechBatch, Tensor]) -> dict[str, Tensor]:
        """Figures of some crops; counts [5] (`SpeechBatch.counts`) are those of the whole step."""
        batch, counts = part
        spoken, pairs, synthetic, masked, _ = counts.clamp(min=1)
        self._dropout.give(batch.kept)
        tokens = self.model(batch.audio, mask_time_indices=batch.masked).last_hidden_state.float()
        features = tokens_to_frames(tokens, batch.lips.shape[1])  # [b, T, hidden]
        heard = lip_sums(self.heads, features, batch.lips, batch.spoken, self.weights, self.speeds)
        made = viseme_sums(self.heads, features, batch.mouth, batch.synthetic)
        terms = {
            "lips": heard["lips"] / spoken,
            "speed": heard["speed"] / pairs,
            "contrast": heard["contrast"] / spoken,
            "visemes": made["visemes"] / synthetic,
            "tract": made["tract"] / synthetic,
            "clusters": cluster_sum(self.heads, tokens, batch.clusters, batch.masked) / masked,
        }
        return {"loss": total(terms, self._losses), **terms}


class SpeechTask(TrainingTask):
    """One speech training.

    Args:
        model: `new_speech_model` or `speech_model_from`; it is trained in place.
        statistics: of the training clips.
        held_out: clips that are looked at now and then; without, `validate` gives nothing.
        seed: of everything random; the same as the loop's.
    """

    title = "speech"

    def __init__(
        self,
        model: Any,
        statistics: SpeechStatistics,
        config: SpeechTaskConfig | None = None,
        *,
        held_out: Sequence[SpokenClip] = (),
        seed: int = 0,
    ) -> None:
        self.config = config or SpeechTaskConfig()
        self.model, self.held_out, self.seed = model, held_out, seed
        self.world, self.device = World(), torch.device("cpu")
        self.statistics = statistics
        lips = len(statistics.tensors["deviation"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.heads = SpeechHeads(model.config.hidden_size, lips, len(VISEMES))
        both = nn.ModuleDict({"model": model, "heads": self.heads})
        self.modules: dict[str, nn.Module] = {"speech": both}
        self.averaged = both
        self.optimizer = self.config.optimiser.adamw(both.parameters())
        self.optimizers: dict[str, torch.optim.Optimizer] = {"adamw": self.optimizer}
        dropout = SampleDropout(model, self.config.augmentation.dropout)
        self._crops = CropMaker(statistics, self.config.augmentation, dropout)
        self.objective = SpeechObjective(
            model, self.heads, dropout, statistics.tensors["speeds"], self.config.losses
        )
        self._wrapped: nn.Module = self.objective

    def distribute(self, world: World, device: torch.device) -> None:
        self.world, self.device = world, device
        self.objective.to(device)
        self._wrapped = world.wrap(self.objective, device)

    def collate(self, share: Share) -> list[SpeechBatch]:
        """The share's crops in parts of nearly equal length.

        Raises BadInput when a clip has another number of lip measurements than the statistics.
        """
        wanted = len(self.statistics.tensors["deviation"])
        for _, clip in share.items:
            if clip.lips.shape[1] != wanted:
                raise BadInput(
                    f"clip {clip.clip_id} has {clip.lips.shape[1]} lip measurements a frame, the statistics {wanted}",
                    fix="fit the statistics with the same lip map",
                )
        parts = in_parts(share.items, self.config.optimiser.accumulate)
        return [
            self._crops.make([(sample_rng(self.seed, share.step, k), clip) for k, clip in part])
            for part in parts
        ]

    def step(self, state: LoopState, batch: list[SpeechBatch]) -> Mapping[str, Tensor]:
        """Figures: `loss`, its terms `lips`, `speed`, `contrast`, `clusters`, `visemes`, `tract`, and `grad_norm`."""
        self.averaged.train()
        set_lr(self.optimizer, self.config.optimiser.rate(state))
        parts = [part.to(self.device) for part in batch]
        counts = self.world.sum(torch.stack([part.counts() for part in parts]).sum(0))
        counted = [(part, counts) for part in parts]
        return optimise(
            self._wrapped, counted, self.optimizer, self.config.optimiser, self.world, self.device
        )

    def validate(self, step: int, folder: Path) -> Validation:
        """`lip_r`: correlation of heard with true lip opening, mean over held-out clips; `lip_r_shuffled`: of another
        clip's sound; `heldout_lips`: error of lips relative to the clip, 1 when nothing is heard. File lips.csv.
        """
        if len(self.held_out) < 2:
            return Validation({})
        deviation = self.statistics.tensors["deviation"].numpy()
        guesses = [self._hear(clip.samples, len(clip.lips)) for clip in self.held_out]
        truths = [(clip.lips - clip.lips.mean(0)) / deviation for clip in self.held_out]
        rows = []
        for number, (clip, truth) in enumerate(zip(self.held_out, truths, strict=True)):
            other = np.resize(guesses[(number + 1) % len(guesses)][:, 0], len(truth))
            own, shuffled = correlation(guesses[number][:, 0], truth[:, 0]), correlation(other, truth[:, 0])
            rows.append((clip.clip_id, len(truth), round(own, 4), round(shuffled, 4)))
        path = folder / "lips.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("clip_id", "frames", "r", "r_shuffled"), *rows])
        wrong, right = (np.concatenate(values) for values in (guesses, truths))
        weights = self.objective.weights.cpu().numpy()
        metrics = {
            "lip_r": float(np.mean([row[2] for row in rows])),
            "lip_r_shuffled": float(np.mean([row[3] for row in rows])),
            "heldout_lips": float(((wrong - right) ** 2 @ weights).mean()),
        }
        return Validation(metrics, [path])

    @torch.no_grad()
    def _hear(self, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
        """What the heads read of a recording, relative to its mean: [frames, L] in units of the deviation."""
        self.averaged.eval()
        audio = normalise(torch.from_numpy(samples)[None].to(self.device))
        features = tokens_to_frames(self.model(audio).last_hidden_state.float(), frames)
        guess = self.heads.lips(features)[0].cpu().numpy()
        return guess - guess.mean(0)  # type: ignore[no-any-return]

    def export(self, path: Path, lineage: Mapping[str, str]) -> None:
        """A Hugging Face folder that bundles take, with the lineage in speech.json."""
        export_speech(self.model, path, {"lineage": dict(lineage)})
