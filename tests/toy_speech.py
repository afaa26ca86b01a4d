"""Clips whose sound tells how far the mouth is open, and small trainings of the speech encoder on them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ifmdm_core.training.fit import FitSettings, Progress, fit
from ifmdm_core.training.items import SpokenClip
from ifmdm_core.training.keeper import FolderKeeper
from ifmdm_core.training.list_source import ListSource
from ifmdm_core.training.optimiser import OptimiserConfig
from ifmdm_core.training.speech_crops import SpeechAugmentation
from ifmdm_core.training.speech_statistics import SpeechStatistics
from ifmdm_core.training.speech_task import SpeechModelConfig, SpeechTask, SpeechTaskConfig, new_speech_model

SMALL = SpeechModelConfig(hidden=32, layers=1, heads=2)


def spoken_clips(count: int, seed: int = 0, lips: int = 2) -> list[SpokenClip]:
    """Clips of 18 to 45 frames: level and pitch follow the first lip measurement, the others are noise."""
    clips = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        frames = int(rng.integers(18, 46))
        opening = np.convolve(rng.standard_normal(frames + 4), np.hanning(7)[1:-1] / 2, "valid")
        level = np.repeat(np.clip(0.15 + 0.1 * opening, 0.005, 0.5), 640)
        time = np.arange(len(level)) / 16000
        sound = level * (np.sin(2 * np.pi * 300 * time) + 0.5 * np.sin(2 * np.pi * 1700 * time * (1 + level)))
        rest = rng.standard_normal((frames, lips - 1))
        measured = np.concatenate([opening[:, None], rest], 1).astype(np.float32)
        clips.append(SpokenClip(f"spoken-{seed}-{number:03d}", sound.astype(np.float32), measured))
    return clips


@cache
def toy_statistics() -> SpeechStatistics:
    return SpeechStatistics.fit(spoken_clips(16), recordings=2)


def speech_task(*, accumulate: int = 1, seed: int = 0, **augmentation: Any) -> SpeechTask:
    return SpeechTask(
        new_speech_model(SMALL, seed),
        toy_statistics(),
        SpeechTaskConfig(
            optimiser=OptimiserConfig(lr=2e-3, warmup=5, accumulate=accumulate),
            augmentation=SpeechAugmentation(**{"frames": 24, "synthetic": 0.25, **augmentation}),
        ),
        held_out=spoken_clips(6, seed=1),
        seed=seed,
    )


def train_speech_toy(
    folder: Path,
    steps: int,
    stop_at: int | None = None,
    *,
    accumulate: int = 1,
    batch: int = 6,
    **settings: Any,
) -> int:
    """Trains in whatever group this process is in, asked to stop from step `stop_at` on; returns the steps done."""
    task = speech_task(accumulate=accumulate)
    reached = [0]

    def progress(now: Progress) -> None:
        reached[0] = now.state.step

    state = fit(
        task,
        ListSource(spoken_clips(16), batch, seed=3),
        FitSettings(steps=steps, **{"checkpoint_steps": 4, "log_steps": 1, **settings}),
        FolderKeeper(folder),
        on_progress=progress,
        should_stop=lambda: stop_at is not None and reached[0] >= stop_at,
    )
    return state.step


def train_speech_twice(folder: Path, steps: int, stop_at: int) -> None:
    """In `whole` to the end, in `part` until `stop_at`."""
    train_speech_toy(folder / "whole", steps)
    train_speech_toy(folder / "part", steps, stop_at)
