"""How stage 2 does on held-out clips, mid-training: its loss, whether lips follow speech, and a video to watch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.autoencoder import Autoencoder
from ifmdm_core.controls import RenderControls
from ifmdm_core.media.audio import audio_from_samples
from ifmdm_core.media.video_writer import VideoWriter
from ifmdm_core.motion.diffusion import alphas_cumprod
from ifmdm_core.motion.sampler import MotionSampler
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.speech import SAMPLE_RATE
from ifmdm_core.training.items import ClipFeatures
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.motion_check import judge_lips, lagged_r, trace_lips
from ifmdm_core.training.motion_loss import MotionLossWeights, motion_loss
from ifmdm_core.training.motion_statistics import LossScales
from ifmdm_core.training.motion_windows import Augmentation, WindowMaker, stack_windows
from ifmdm_core.training.task import Validation

LEVELS = 4
"""Noise levels at which each held-out clip's loss is taken."""
CHUNK = 8
"""Frames decoded in one call."""


@dataclass(frozen=True)
class ShownClip:
    """A held-out clip with its pictures and sound."""

    features: ClipFeatures
    """n frames."""
    frames: NDArray[np.uint8]
    """[n, S, S, 3], S the decoder's size."""
    samples: NDArray[np.float32]
    """[n * 640], 16 kHz."""


@dataclass(frozen=True)
class HeldOutClips:
    """What a stage 2 training is looked at with."""

    clips: Sequence[ClipFeatures]
    """Of people it does not learn from; at least two for figures of lips."""
    shown: Sequence[ShownClip] = ()
    """Rendered as videos, truth beside ours, when there is a decoder."""
    decoder: Autoencoder | None = None
    """The stage 1 whose encoder made the motion."""


def heldout_loss(
    model: MotionGenerator, clips: Sequence[ClipFeatures], scales: LossScales, weights: MotionLossWeights
) -> dict[str, float]:
    """Loss and its parts at fixed windows, noise and noise levels, so that one step compares with another."""
    maker = WindowMaker(model, Augmentation.none())
    device = next(model.parameters()).device
    alphas = alphas_cumprod(model.config).to(device)
    sums: dict[str, float] = {}
    total = 0.0
    for first in range(0, len(clips), 32):
        rows = []
        for index, clip in enumerate(clips[first : first + 32], first):
            for level in range(LEVELS):
                rng = sample_rng(0, level, index)
                row = maker.draw(rng, clip.motion, clip.speech, maker.config.window, maker.config.window)
                row["t"] = np.array(int((level + 0.5) / LEVELS * model.config.timesteps))
                rows.append(row)
        batch = stack_windows(rows).to(device)
        count = float(batch.new_frames())
        for name, value in motion_loss(model, batch, alphas, scales, weights).items():
            sums[name] = sums.get(name, 0.0) + count * float(value)
        total += count
    return {f"heldout_{name}": value / total for name, value in sums.items()}


@torch.no_grad()
def look(
    model: MotionGenerator,
    held_out: HeldOutClips,
    scales: LossScales,
    weights: MotionLossWeights,
    folder: Path,
    controls: RenderControls | None = None,
) -> Validation:
    """Figures `heldout_loss` and its parts, `lip_r`, `lip_r_shuffled`, `lip_lag` (frames), `lip_range` and `spread`
    (ratios to the truth); files lips.csv and a video per shown clip. The model is left in eval mode.
    """
    model.eval()
    clips = held_out.clips
    metrics = heldout_loss(model, clips, scales, weights) if clips else {}
    files: list[Path] = []
    if len(clips) >= 2:
        opening = model.lip_map[0].cpu().numpy()
        given = [(c.motion, c.speech, c.motion[_closed(c, opening)]) for c in clips]
        traces = trace_lips(model, given, controls)
        check = judge_lips(traces, opening)
        metrics |= {
            "lip_r": check.r,
            "lip_r_shuffled": check.r_shuffled,
            "lip_lag": float(check.lag),
            "lip_range": check.range_ratio,
            "spread": check.sigma_ratio,
        }
        files.append(folder / "lips.csv")
        with files[-1].open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["clip_id", "frames", "r", "r_shuffled"])
            rows = zip(clips, traces.true, traces.made, traces.shuffled, strict=True)
            for clip, true, made, shuffled in rows:
                own, other = (lagged_r(true @ opening, m @ opening) for m in (made, shuffled))
                table.writerow([clip.clip_id, len(true), round(own, 4), round(other, 4)])
    if held_out.decoder is not None:
        for shown in held_out.shown:
            files.append(folder / f"sample-{shown.features.clip_id[:12]}.mp4")
            show(model, shown, held_out.decoder, files[-1], controls)
    return Validation(metrics, files)


def show(
    model: MotionGenerator,
    clip: ShownClip,
    decoder: Autoencoder,
    path: Path,
    controls: RenderControls | None = None,
) -> None:
    """Truth on the left, on the right ours from the clip's most closed frame and its speech; with the sound."""
    features = clip.features
    row = _closed(features, model.lip_map[0].cpu().numpy())
    device = next(model.parameters()).device
    hint = torch.from_numpy(features.motion[row]).to(device)
    speech = torch.from_numpy(features.speech.astype(np.float32)).to(device)
    motion = torch.cat(list(MotionSampler(model).generate(speech, hint, controls)))  # [n, 20]
    home = next(decoder.parameters()).device
    picture = torch.from_numpy(clip.frames[row]).to(home).permute(2, 0, 1)[None].float() / 255  # [1, 3, S, S]
    identity = decoder.encode_identity(picture, hint[None].to(home))
    sound = audio_from_samples(clip.samples, SAMPLE_RATE)
    side = clip.frames.shape[1]
    with VideoWriter(path, (2 * side, side), 25, sound) as writer:
        for first in range(0, len(motion), CHUNK):
            made = decoder.decode(identity, motion[first : first + CHUNK].to(home)).float()  # [b, 3, S, S]
            pixels = made.mul(255).add(0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
            writer.write(np.concatenate([clip.frames[first : first + CHUNK], pixels], 2))


def _closed(clip: ClipFeatures, opening: NDArray[np.float32]) -> int:
    """The frame with the most closed mouth."""
    return int((clip.motion @ opening).argmin())
