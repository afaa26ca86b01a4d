"""A small stage 1 training on frames of the bundled photo, for tests and the processes they start."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from ifmdm_core.autoencoder import AutoencoderConfig
from ifmdm_core.media.face import clip_square, crop, find_faces
from ifmdm_core.training.autoencoder_settings import AdversaryConfig, AutoencoderTaskConfig
from ifmdm_core.training.autoencoder_task import AutoencoderTask, new_autoencoder
from ifmdm_core.training.fit import FitSettings, fit
from ifmdm_core.training.items import FramePair
from ifmdm_core.training.keeper import FolderKeeper
from ifmdm_core.training.list_source import ListSource
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.task import Share
from tests.talking_videos import talking_frames

SMALL = AutoencoderConfig(
    size=64, encoder_channels=(8, 12, 16, 16), extra_convs=(False,) * 4, latent_dim=32, flow_size=16,
    pose_fields=4, expression_fields=4, field_channels=8, generator_channels=(8, 8), motion_size=64,
    motion_channels=(8, 12, 16, 16), part_channels=(8, 8),
)  # fmt: skip


@cache
def clip(seed: int, count: int, size: int) -> np.ndarray:
    """Frames uint8 [count, size, size, 3], cut out around the face as clips of a dataset are."""
    frames = talking_frames(seed, count, 256)
    square = clip_square([find_faces(frames[0])[0].box])
    return np.stack([crop(frame, square, size) for frame in frames])


def faceless(name: str, size: int = 64) -> FramePair:
    """Two pictures of nobody."""
    smooth = [
        cv2.resize(np.random.default_rng(k).integers(0, 255, (4, 4, 3), np.uint8), (size, size))
        for k in (1, 2)
    ]
    return FramePair(name, None, np.stack(smooth))


def pairs(count: int, size: int = 64) -> list[FramePair]:
    """Pairs of frames 25 apart, named clip-0, clip-1, ..."""
    made = []
    for number in range(count):
        frames = clip(number, 26, size)
        made.append(FramePair(f"clip-{number}", None, frames[[0, 25]]))
    return made


def share(items: list[FramePair], step: int = 0) -> Share:
    """All samples of a step in one process."""
    return Share(step, len(items), list(enumerate(items)), [p.clip_id for p in items], {})


def small_task(train: str = "all", adversary_from: int | None = None, accumulate: int = 1) -> AutoencoderTask:
    """From random weights that are always the same."""
    config = AutoencoderTaskConfig(
        train=train,
        adversary=None if adversary_from is None else AdversaryConfig(from_step=adversary_from),
        optimiser=OptimiserConfig(lr=2e-4, warmup=2, accumulate=accumulate),
    )
    return AutoencoderTask(new_autoencoder(SMALL, seed=0), config, seed=3)


def run(folder: Path, steps: int, stop_at: int | None = None) -> None:
    """Train in this process, one of a group or alone: 4 pairs a step in 2 parts, discriminators from step 1 on."""
    torch.set_num_threads(1)
    task = small_task(adversary_from=1, accumulate=2)
    calls = iter(range(1, steps + 1))
    settings = FitSettings(steps=steps, checkpoint_steps=steps, log_steps=1, seed=3)
    with_faceless = [*pairs(4), faceless("nobody")]
    stop = (lambda: next(calls) >= stop_at) if stop_at else (lambda: False)
    fit(task, ListSource(with_faceless, 4, seed=1), settings, FolderKeeper(folder), should_stop=stop)
