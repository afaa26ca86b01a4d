"""Trains the sync scorers R and P.

    python -m ifmdm_core.training.sync TRAINING_SET OUT.safetensors --sees points --minutes 10

OUT.txt beside it says what the scorer achieves on held-out clips; evaluation quotes it.

Contrast within a clip: the sound of a window against that of windows at least three frames away (80 % of the
negatives' weight) and of another clip of the same speaker (20 %), in both directions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.sync import EDGE
from ifmdm_core.metrics.sync_model import ScorerInput, SyncScorer
from ifmdm_core.training.dataset import ClipRecord, TrainingSet
from ifmdm_core.training.loop import Ema, LoopState, TrainingLoop, set_lr, warmup_cosine
from ifmdm_core.training.speech_targets import estimate_offsets, usable_clips
from ifmdm_core.training.sync_data import (
    SyncClip,
    cut,
    load_sync_clips,
    roughen_mel,
    roughen_pictures,
    roughen_points,
)


@dataclass(frozen=True)
class SyncTraining:
    """How a scorer is trained."""

    sees: ScorerInput = "points"
    frames_per_batch: int = 1600
    """Video frames in one batch."""
    short_frames: int = 23
    long_frames: int = 60
    """Frames of a stretch from clips below and above 70 frames."""
    long_share: float = 0.45
    """Share of the batches from long clips (GRID and mixed, half each)."""
    other_clip_share: float = 0.2
    """Weight of another clip of the same speaker among the negatives."""
    lr: float = 1.5e-3
    seed: int = 0


class SyncTrainer:
    """Clips in memory, a scorer, and one training step."""

    def __init__(self, clips: Sequence[SyncClip], config: SyncTraining) -> None:
        self.config = config
        self.groups: dict[str, list[SyncClip]] = {"short": [], "grid": [], "mixed": []}
        for clip in clips:
            if len(clip.mouths) - 2 * EDGE >= config.long_frames:
                self.groups["grid" if clip.kind == "grid" else "mixed"].append(clip)
            elif len(clip.mouths) - 2 * EDGE >= config.short_frames:
                self.groups["short"].append(clip)
        self.groups = {name: group for name, group in self.groups.items() if len(group) > 1}
        if not self.groups:
            raise BadInput(
                f"{len(clips)} clips, none long enough to train a sync scorer",
                fix=f"give clips of at least {config.short_frames + 2 * EDGE} frames",
            )
        torch.manual_seed(config.seed)
        self.scorer = SyncScorer(config.sees)
        if config.sees == "points":
            _standardise(self.scorer, clips)
        self.optimizer = torch.optim.AdamW(self.scorer.parameters(), lr=config.lr, weight_decay=0.05)

    def step(self, state: LoopState) -> dict[str, Tensor | float]:
        """One batch of stretches of one length. Returns the loss and how often the true window wins."""
        config = self.config
        rng = np.random.default_rng((config.seed, state.step))
        shares = {
            "short": 1 - config.long_share,
            "grid": config.long_share / 2,
            "mixed": config.long_share / 2,
        }
        names = list(self.groups)
        weights = np.array([shares[name] for name in names])
        name = str(rng.choice(names, p=weights / weights.sum()))
        frames = config.short_frames if name == "short" else config.long_frames
        group = self.groups[name]
        chosen = [group[i] for i in rng.integers(len(group), size=max(2, config.frames_per_batch // frames))]
        pairs = [cut(clip, frames, rng) for clip in chosen]
        mel = roughen_mel(torch.from_numpy(np.stack([m for m, _ in pairs])), rng)
        mouths = torch.from_numpy(np.stack([v for _, v in pairs]))
        mouths = (
            roughen_points(mouths, rng) if config.sees == "points" else roughen_pictures(mouths / 255.0, rng)
        )
        self.scorer.train()
        sound, mouth = self.scorer(mel, mouths)  # [b, E, dim] each
        loss, right = contrast(
            sound,
            mouth,
            self.scorer.sharpness.exp(),
            [clip.speaker for clip in chosen],
            config.other_clip_share,
        )
        set_lr(self.optimizer, config.lr * warmup_cosine(state, 50))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.scorer.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": loss, "right": right}


def contrast(
    sound: Tensor, mouth: Tensor, sharpness: Tensor, speakers: Sequence[str], other_share: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE over windows of the same clip, three frames or more apart, and of another clip of the speaker.

    Args:
        sound, mouth: unit embeddings [b, E, dim]. sharpness: factor of the cosines.
        speakers: [b]; an empty name has no other clip.
        other_share: weight of the other clip's windows among all negatives.

    Returns:
        Mean loss of both directions, and how often the true window has the highest cosine.
    """
    windows = sound.shape[1]
    place = torch.arange(windows, device=sound.device)
    apart = (place[:, None] - place).abs()
    near = (apart > 0) & (apart < 3)  # [E, E]
    inside = (apart >= 3).sum(1).clamp_min(1).float()  # negatives of each window
    partner = list(range(len(speakers)))
    for i, speaker in enumerate(speakers):
        others = [j for j in range(len(speakers)) if j != i and speaker and speakers[j] == speaker]
        partner[i] = others[i % len(others)] if others else i
    known = torch.tensor([p != i for i, p in enumerate(partner)], device=sound.device)
    share = inside * other_share / (1 - other_share) / windows  # so that both sums stand 4 : 1
    loss, right = sound.new_zeros(()), sound.new_zeros(())
    for query, key in ((mouth, sound), (sound, mouth)):
        own = (query @ key.transpose(1, 2) * sharpness).masked_fill(near, -1e4)  # [b, E, E]
        other = query @ key[partner].transpose(1, 2) * sharpness + share.log()[:, None]
        other = other.masked_fill(~known[:, None, None], -1e4)
        logits = torch.cat([own, other], -1)  # [b, E, 2 E]
        target = place.expand(len(own), -1)
        loss = loss + 0.5 * nn.functional.cross_entropy(logits.transpose(1, 2), target)
        right = right + 0.5 * (own.argmax(-1) == target).float().mean()
    return loss, right.detach()


def _standardise(scorer: SyncScorer, clips: Sequence[SyncClip]) -> None:
    points = [clip.mouths.reshape(len(clip.mouths), -1) for clip in clips]
    flat = np.concatenate(points)
    speed = np.concatenate([np.diff(p, axis=0) for p in points])
    for name, value in (
        ("mean", flat.mean(0)),
        ("deviation", flat.std(0) + 1e-3),
        ("speed", speed.std(0) + 1e-3),
    ):
        getattr(scorer.mouth, name).copy_(torch.from_numpy(value.astype(np.float32)))


def train_sync(
    clips: Sequence[SyncClip],
    out: str | Path,
    minutes: float | None = 10.0,
    max_steps: int | None = None,
    config: SyncTraining | None = None,
    resume: bool = True,
) -> SyncScorer:
    """Train a scorer on loaded clips and write it to `out` (safetensors); checkpoints go to `<out>.work`."""
    trainer = SyncTrainer(clips, config or SyncTraining())
    loop = TrainingLoop(
        Path(f"{out}.work"),
        modules={"scorer": trainer.scorer},
        optimizers={"adam": trainer.optimizer},
        ema=Ema(trainer.scorer, 0.995),
        minutes=minutes,
        max_steps=max_steps,
        seed=trainer.config.seed,
        resume=resume,
        title=f"sync {trainer.config.sees}",
    )
    loop.run(trainer.step)
    assert loop.ema is not None
    with loop.ema.applied():
        trainer.scorer.save(out)
    return SyncScorer.load(out)


def cross_validate(
    clips: Sequence[SyncClip],
    work: str | Path,
    folds: int = 3,
    minutes: float | None = 4.0,
    max_steps: int | None = None,
    config: SyncTraining | None = None,
) -> dict[str, list[int]]:
    """Offsets of mixed clips by scorers that never saw their speakers: by clip name, one offset per span.

    Each fold trains on everything but a part of the mixed clips' speakers. GRID and news always stay in.
    """
    from ifmdm_core.training.sync_gates import offsets_of

    speakers = sorted({clip.speaker for clip in clips if clip.kind == "mixed"})
    np.random.default_rng(0).shuffle(speakers)
    found: dict[str, list[int]] = {}
    for fold in range(folds):
        out = set(speakers[fold::folds])
        held = [clip for clip in clips if clip.kind == "mixed" and clip.speaker in out]
        rest = [clip for clip in clips if clip.kind != "mixed" or clip.speaker not in out]
        scorer = train_sync(rest, Path(work) / f"fold{fold}.safetensors", minutes, max_steps, config)
        found.update({clip.name: offsets_of(scorer, clip) for clip in held if len(clip.mouths) >= 60})
    return found


def main() -> None:
    from ifmdm_core.training.sync_gates import report_gates

    parser = argparse.ArgumentParser(description="Train a sync scorer and print its validity gates.")
    parser.add_argument("training_set")
    parser.add_argument("out")
    parser.add_argument("--sees", choices=("points", "pictures"), default="points")
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    data = TrainingSet(arguments.training_set)
    offsets = estimate_offsets(data)

    def load(clips: Sequence[ClipRecord]) -> list[SyncClip]:
        return load_sync_clips(data, clips, arguments.sees, offsets)

    seed = 0 if arguments.sees == "points" else 1
    config = SyncTraining(sees=arguments.sees, seed=seed, frames_per_batch=1600 if seed == 0 else 640)
    scorer = train_sync(
        load(usable_clips(data, "train", 29)), arguments.out, arguments.minutes, config=config
    )
    report = report_gates(scorer, load(usable_clips(data, "heldout", 29)))
    Path(arguments.out).with_suffix(".txt").write_text(report.summary() + "\n")
    print(report)


if __name__ == "__main__":
    main()
