"""Clips whose lips follow their speech and trainings of stage 2 on them, importable by child processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ifmdm_core.motion import MotionConfig
from ifmdm_core.training.fit import FitSettings, Progress, fit
from ifmdm_core.training.items import ClipFeatures
from ifmdm_core.training.keeper import FolderKeeper
from ifmdm_core.training.list_source import ListSource
from ifmdm_core.training.loop import Diverged
from ifmdm_core.training.motion_look import HeldOutClips
from ifmdm_core.training.motion_statistics import MotionStatistics, fit_motion_statistics
from ifmdm_core.training.motion_task import MotionTask, MotionTaskConfig, new_motion_generator
from ifmdm_core.training.motion_windows import Augmentation
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.world import World

SPEECH_DIM = 6


def toy_clips(count: int, seed: int = 0) -> list[ClipFeatures]:
    """Clips of 20 to 70 frames; one law leads from speech to motion, each clip has a place of its own."""
    mix = 0.15 * np.random.default_rng(99).standard_normal((SPEECH_DIM, 20))
    clips = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        frames = int(rng.integers(20, 71))
        heard = np.convolve(rng.standard_normal(frames * SPEECH_DIM), np.ones(4) / 2, "same").reshape(
            frames, -1
        )
        own = 0.2 * rng.standard_normal(20) + 0.02 * rng.standard_normal((frames, 20))
        motion = np.tanh(heard @ mix + own).astype(np.float32)
        clips.append(ClipFeatures(f"clip-{seed}-{number:03d}", None, motion, heard.astype(np.float16)))
    return clips


def toy_config(**changes: Any) -> MotionConfig:
    values = {
        "speech_dim": SPEECH_DIM, "width": 32, "depth": 2, "heads": 2, "prediction": "sample", "window": 40,
        "context": 8, "overlap": 3, "min_window": 16, "dropout": 0.1,
    }  # fmt: skip
    return MotionConfig(**(values | changes))


def toy_statistics(clips: list[ClipFeatures], config: MotionConfig, quiet: bool = True) -> MotionStatistics:
    lip_map = np.eye(config.lip_dim, 20, dtype=np.float32) * 5
    pairs = ((clip.motion, clip.speech) for clip in clips)
    made = fit_motion_statistics(pairs, config, lip_map, np.zeros(config.lip_dim, np.float32))
    sounds = np.random.default_rng(5).normal(0, 0.1, (3, 60, SPEECH_DIM)).astype(np.float16)
    return made.with_quiet(sounds) if quiet else made


def toy_task(
    clips: list[ClipFeatures], *, accumulate: int = 1, lr: float = 3e-3, seed: int = 0, **changes: Any
) -> MotionTask:
    config = toy_config(**changes)
    return MotionTask(
        new_motion_generator(config, seed),
        toy_statistics(clips, config),
        MotionTaskConfig(
            optimiser=OptimiserConfig(lr=lr, warmup=5, accumulate=accumulate),
            augmentation=Augmentation(silence=0.3),
        ),
        held_out=HeldOutClips(toy_clips(6, seed=1)),
        seed=seed,
    )


def train_toy(
    folder: Path,
    steps: int,
    stop_at: int | None = None,
    *,
    batch: int = 8,
    spoilt: int | None = None,
    accumulate: int = 1,
    lr: float = 3e-3,
    held_out: bool = False,
    **settings: Any,
) -> int:
    """Trains in whatever group this process is in; returns the steps done.

    Args:
        stop_at: asked to stop from this step on.
        spoilt: number of the clip whose motion is NaN.
    """
    clips = toy_clips(24)
    task = toy_task(clips, accumulate=accumulate, lr=lr)
    if not held_out:
        task.held_out = None
    if spoilt is not None:
        clips[spoilt] = replace(clips[spoilt], motion=np.full_like(clips[spoilt].motion, np.nan))
    reached = [0]

    def progress(now: Progress) -> None:
        reached[0] = now.state.step

    values = {"checkpoint_steps": 4, "log_steps": 2, **settings}
    state = fit(
        task,
        ListSource(clips, batch, seed=3),
        FitSettings(steps=steps, **values),
        FolderKeeper(folder),
        on_progress=progress,
        should_stop=lambda: stop_at is not None and reached[0] >= stop_at,
    )
    return state.step


def train_toy_twice(folder: Path, steps: int, stop_at: int) -> None:
    """In `whole` to the end, in `part` until `stop_at`: two trainings for the price of starting processes once."""
    train_toy(folder / "whole", steps)
    train_toy(folder / "part", steps, stop_at)


def expect_divergence(folder: Path) -> None:
    """Trains on clips one of which is NaN; each process writes down what it was told."""
    try:
        train_toy(folder / "run", 20, spoilt=5)
    except Diverged as error:
        (folder / f"rank-{World.current().rank}.json").write_text(json.dumps(str(error)))
