"""Trains the demo speech encoder: features that hold lips, from a few million parameters.

    python -m ifmdm_core.training.speech TRAINING_SET OUT --minutes 28

Objectives: lip components and mouth blendshapes relative to the clip, with their velocity (1); within-clip
audio-lip contrast (0.5); masked clusters of mel frames over all speech (0.3); visemes of synthetic speech (0.3).
The result is a Hugging Face folder with `speech.json` beside it: offsets, held-out figures, what it was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ifmdm_core.errors import BadInput
from ifmdm_core.speech import SAMPLE_RATE, SpeechEncoder, normalise
from ifmdm_core.training.dataset import FPS, TrainingSet
from ifmdm_core.training.items import SAMPLES_PER_FRAME
from ifmdm_core.training.loop import Ema, LoopState, TrainingLoop, set_lr, warmup_cosine
from ifmdm_core.training.speech_augment import change_speed, mask_spans, roughen
from ifmdm_core.training.speech_babble import VISEMES, babble
from ifmdm_core.training.speech_clusters import cluster_mels, mel_tokens
from ifmdm_core.training.speech_export import export_speech
from ifmdm_core.training.speech_losses import SpeechLossWeights, cluster_sum, lip_sums, total, viseme_sums
from ifmdm_core.training.speech_model import SpeechHeads, demo_model, tokens_to_frames
from ifmdm_core.training.speech_targets import (
    LipTargets,
    clip_audio,
    estimate_offsets,
    lip_targets,
    usable_clips,
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SpeechTraining:
    """How the speech encoder is trained."""

    seconds: float = 30.0
    """Audio in one batch."""
    news_frames: int = 28
    """Frames of a crop from clips shorter than 40 frames."""
    long_frames: int = 64
    """Frames of a crop from longer clips."""
    mix: dict[str, float] = field(
        default_factory=lambda: {"short": 0.5, "long": 0.3, "speech": 0.12, "synthetic": 0.08}
    )
    """Share of the batches by what they hold."""
    lr: float = 1e-3
    seed: int = 0
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    """Width, depth and attention heads of the transformer."""
    synthetic: int = 120
    """Synthetic recordings of about 4 s."""
    bf16: bool = False
    """Run the transformer in bfloat16 (faster where the CPU has it)."""


class SpeechData:
    """Everything the training reads, in memory: clips in sync, speech without video, synthetic speech."""

    def __init__(self, data: TrainingSet, seed: int = 0, synthetic: int = 120) -> None:
        self.targets: LipTargets = lip_targets(data)
        self.offsets = estimate_offsets(data)
        self.short: list[tuple[Array, Array]] = []
        self.long: list[tuple[Array, Array]] = []
        for clip in usable_clips(data, "train"):
            item = clip_audio(data, clip, self.offsets), self.targets.values[clip.rows]
            (self.short if clip.num_frames < 40 else self.long).append(item)
        if not self.short and not self.long:
            raise BadInput(
                f"{data.folder} has no training clip with sound and a face", fix="prepare it again"
            )
        speeches = [s for s in data.speeches if s.split == "train" and s.audio_samples > 2 * SAMPLE_RATE]
        self.speech = [data.audio(s) for s in speeches]
        rng = np.random.default_rng(seed)
        self.synthetic = [babble(rng) for _ in range(synthetic)]
        self.centres = cluster_mels([x for x, _ in self.short + self.long] + self.speech, rng)


class SpeechTrainer:
    """Model, heads, and one training step."""

    def __init__(self, data: SpeechData, config: SpeechTraining) -> None:
        torch.manual_seed(config.seed)
        self.data, self.config = data, config
        self.model = demo_model(config.hidden, config.layers, config.heads).train()
        lips = data.targets.values.shape[1]
        self.heads = SpeechHeads(self.model.config.hidden_size, lips, len(VISEMES))
        self.modules = nn.ModuleDict({"model": self.model, "heads": self.heads})
        matrices = [p for p in self.modules.parameters() if p.ndim > 1]
        others = [p for p in self.modules.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))
        self.weights = torch.from_numpy(data.targets.weights)
        self.speeds = torch.from_numpy(data.targets.speeds)

    def step(self, state: LoopState) -> dict[str, Tensor | float]:
        """One batch: sample, augment, forward, backward, update. Returns the losses it has."""
        rng = np.random.default_rng((self.config.seed, state.step))
        kinds = [k for k in self.config.mix if getattr(self.data, k)]
        shares = np.array([self.config.mix[k] for k in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        samples, values = self._batch(kind, rng)
        clusters = torch.cdist(mel_tokens(samples), self.data.centres[None]).argmin(-1)  # [b, t]
        rough = normalise(roughen(normalise(samples) * 0.1, rng))
        rough = rough * torch.from_numpy(10 ** (rng.uniform(-4, 4, (len(rough), 1)) / 20)).float()
        mask = mask_spans(rng, tuple(clusters.shape), 0.4 if kind == "speech" else 0.1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            tokens = self.model(rough, mask_time_indices=mask).last_hidden_state.float()  # [b, t, hidden]
        losses = self._losses(kind, tokens, values, clusters, mask)
        set_lr(self.optimizer, self.config.lr * warmup_cosine(state, 60))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": losses["loss"].detach()}

    def _batch(self, kind: str, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Clean audio [b, T * 640] and per-frame values [b, T, dim] of one kind of recording."""
        frames = self.config.news_frames if kind == "short" else self.config.long_frames
        count = max(2, round(self.config.seconds * FPS / frames))
        pool: Any = getattr(self.data, kind)
        audios, values = [], []
        for i in rng.integers(len(pool), size=count):
            samples, lips = (
                (pool[i], np.zeros((len(pool[i]) // 640, 1), np.float32)) if kind == "speech" else pool[i]
            )
            factor = float(np.exp(rng.uniform(-0.14, 0.14)))
            need = min(len(lips), int(np.ceil(frames * factor)) + 1)
            first = int(rng.integers(len(lips) - need + 1))
            part = samples[first * SAMPLES_PER_FRAME : (first + need) * SAMPLES_PER_FRAME]
            stretched, followed = change_speed(part, lips[first : first + need], factor, frames)
            if kind == "synthetic":  # classes do not interpolate
                at = np.minimum((np.arange(frames) * factor).round().astype(int), need - 1)
                followed[:, 0] = lips[first + at, 0]
            audios.append(stretched)
            values.append(followed)
        return torch.from_numpy(np.stack(audios)), torch.from_numpy(np.stack(values).astype(np.float32))

    def _losses(
        self, kind: str, tokens: Tensor, values: Tensor, clusters: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        terms = {"clusters": cluster_sum(self.heads, tokens, clusters, mask) / mask.sum()}
        frames = values.shape[0] * values.shape[1]
        valid = torch.ones(values.shape[:2])
        if kind in ("short", "long"):
            features = tokens_to_frames(tokens, values.shape[1])  # [b, T, hidden]
            sums = lip_sums(self.heads, features, values, valid, self.weights, self.speeds)
            counts = {"lips": frames, "speed": frames - len(values), "contrast": frames}
            terms |= {name: value / counts[name] for name, value in sums.items()}
        elif kind == "synthetic":
            features = tokens_to_frames(tokens, values.shape[1])
            sums = viseme_sums(self.heads, features, values, valid)
            terms |= {name: value / frames for name, value in sums.items()}
        return {**terms, "loss": total(terms, SpeechLossWeights())}


def heldout_correlations(
    trainer: SpeechTrainer, data: TrainingSet, split: str = "heldout", limit: int = 200
) -> dict[str, dict[str, float | list[float]]]:
    """Correlation of predicted with true jaw opening and lip gap minus the clip mean, by kind of clip.

    Returns per kind: clips, jaw and gap r over all frames, each with a 95 % bootstrap interval over clips.
    """
    encoder = SpeechEncoder(trainer.model)
    rng = np.random.default_rng(0)
    report: dict[str, dict[str, float | list[float]]] = {}
    clips = usable_clips(data, split)
    for kind in sorted({clip.kind for clip in clips}):
        pairs = []
        for clip in [c for c in clips if c.kind == kind][:limit]:
            features = encoder.encode(clip_audio(data, clip, trainer.data.offsets), FPS, clip.num_frames)
            with torch.no_grad():
                guess = trainer.heads.lips(features).numpy()
            pairs.append((guess - guess.mean(0), trainer.data.targets.values[clip.rows]))
        report[kind] = {"clips": len(pairs)}
        for name in ("jawOpen", "gap", "mouthPucker"):
            column = trainer.data.targets.names.index(name)
            draws = [np.arange(len(pairs))] + [rng.integers(len(pairs), size=len(pairs)) for _ in range(500)]
            rs = []
            for draw in draws:
                guess = np.concatenate([pairs[i][0][:, column] for i in draw])
                truth = np.concatenate([pairs[i][1][:, column] for i in draw])
                rs.append(float(np.corrcoef(guess, truth)[0, 1]))
            low, high = np.percentile(rs[1:], [2.5, 97.5])
            report[kind][name] = [round(rs[0], 3), round(float(low), 3), round(float(high), 3)]
    trainer.model.train().requires_grad_(True)
    return report


def train_speech(
    folder: str | Path,
    out: str | Path,
    minutes: float | None = 28.0,
    max_steps: int | None = None,
    config: SpeechTraining | None = None,
    resume: bool = True,
) -> dict[str, Any]:
    """Train on a training set folder and write the encoder as a Hugging Face folder.

    Args:
        folder: the training set. out: the encoder's folder; checkpoints go to `<out>.work`.
        minutes: wall-clock budget; `max_steps` instead or as well.

    Returns:
        What `speech.json` in the folder holds: offsets in frames by kind, held-out correlations, steps.
    """
    config = config or SpeechTraining()
    data = TrainingSet(folder)
    trainer = SpeechTrainer(SpeechData(data, config.seed, config.synthetic), config)
    loop = TrainingLoop(
        Path(f"{out}.work"),
        modules={"all": trainer.modules},
        optimizers={"adam": trainer.optimizer},
        ema=Ema(trainer.modules, 0.998),
        minutes=minutes,
        max_steps=max_steps,
        seed=config.seed,
        resume=resume,
        checkpoint_minutes=5.0,
        title="speech",
    )
    assert loop.ema is not None
    ema = loop.ema

    def show_heldout(state: LoopState) -> None:
        with ema.applied():
            print(
                f"step {state.step} held out: {heldout_correlations(trainer, data)}",
                file=sys.stderr,
                flush=True,
            )

    state = loop.run(trainer.step, on_checkpoint=show_heldout)
    with ema.applied():
        report = {
            "offsets_frames": trainer.data.offsets,
            "heldout": heldout_correlations(trainer, data),
            "steps": state.step,
            "minutes": round(state.elapsed / 60, 2),
            "targets": list(trainer.data.targets.names),
        }
        export_speech(trainer.model, Path(out), report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo speech encoder.")
    parser.add_argument("training_set")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=28.0)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    config = SpeechTraining(bf16=arguments.bf16)
    print(
        json.dumps(
            train_speech(arguments.training_set, arguments.out, arguments.minutes, config=config), indent=1
        )
    )


if __name__ == "__main__":
    main()
