"""What stage 2 knows of its data before the first step: scales, lip map, how quiet sounds.

Fitted once on a sample of clips, in one pass and little memory, and kept beside a run: a resumed training must go on
with the very same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.errors import BadInput
from ifmdm_core.motion.config import MOTION_DIM, MotionConfig
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.silence import completion
from ifmdm_core.training.statistics_file import load_statistics, save_statistics

BUFFERS = (
    "offset_mean", "offset_std", "hint_mean", "hint_std", "speech_mean", "speech_std", "sigma", "lip_map",
    "lip_bias", "lip_mean",
)  # fmt: skip
"""Of `MotionGenerator`: what is fitted to the data."""


@dataclass(frozen=True)
class LossScales:
    """Variances in the training set that make the terms comparable."""

    velocity: float
    lips: float
    lip_velocity: float


@dataclass(frozen=True)
class MotionStatistics:
    """All of it, as tensors with names."""

    tensors: dict[str, Tensor]
    """`BUFFERS`, `scales` [3], `completion` [20, L] and, where silence is trained, `quiet` [levels, frames, S]."""

    @property
    def scales(self) -> LossScales:
        """Of the loss's terms."""
        return LossScales(*self.tensors["scales"].tolist())

    @property
    def completion(self) -> NDArray[np.float32]:
        """[20, L]: the change of m that goes with a change of lips (`silence.completion`)."""
        return self.tensors["completion"].numpy()  # type: ignore[no-any-return]

    @property
    def quiet(self) -> NDArray[np.float16] | None:
        """[levels, frames, S]: speech features of quiet sounds; None where there are none."""
        return self.tensors["quiet"].numpy() if "quiet" in self.tensors else None

    def with_quiet(self, features: NDArray[np.float16]) -> MotionStatistics:
        """The same with features [levels, frames, S] of quiet sounds (`quiet.quiet_features`)."""
        return MotionStatistics({**self.tensors, "quiet": torch.from_numpy(features)})

    def fill(self, model: MotionGenerator) -> None:
        """Put the buffers into a generator.

        Raises BadInput when they are of another shape: another speech encoder or lip map.
        """
        for name in BUFFERS:
            own, value = getattr(model, name), self.tensors[name]
            if own.shape != value.shape:
                raise BadInput(
                    f"{name} of the data has shape {tuple(value.shape)}, the model's {tuple(own.shape)}",
                    fix="set speech_dim and lip_dim of the model to those of the data",
                )
            own.copy_(value)

    def save(self, path: str | Path) -> None:
        """One safetensors file."""
        save_statistics(path, self.tensors)

    @classmethod
    def load(cls, path: str | Path) -> MotionStatistics:
        """What `save` wrote. Raises NotFound, or BadInput when it is no such file."""
        return cls(load_statistics(path, (*BUFFERS, "scales", "completion")))


class StatisticsFitter:
    """Takes clips one by one; `finish` gives the statistics."""

    def __init__(self, config: MotionConfig) -> None:
        self._lengths = [int(length) for length in MotionGenerator.LENGTHS]
        self._spreads: list[list[NDArray[np.float32]]] = [[] for _ in self._lengths]
        self._frames = self._moves = 0
        self._sum, self._square = np.zeros(MOTION_DIM), np.zeros(MOTION_DIM)
        self._within = np.zeros((MOTION_DIM, MOTION_DIM))
        self._speed = np.zeros((MOTION_DIM, MOTION_DIM))
        self._heard, self._loud = np.zeros(config.speech_dim), np.zeros(config.speech_dim)

    def add(self, motion: NDArray[np.float32], speech: NDArray[np.floating]) -> None:
        """One clip: motion [n, 20], speech [n, S], n >= 2."""
        m, heard = motion.astype(np.float64), speech.astype(np.float64)
        self._frames += len(m)
        self._moves += len(m) - 1
        self._sum += m.sum(0)
        self._square += (m**2).sum(0)
        deviations, steps = m - m.mean(0), np.diff(m, axis=0)
        self._within += deviations.T @ deviations
        self._speed += steps.T @ steps
        self._heard += heard.sum(0)
        self._loud += (heard**2).sum(0)
        for length, spreads in zip(self._lengths, self._spreads, strict=True):
            starts = range(0, len(m) - length + 1, max(1, length // 2))
            spreads += [motion[s : s + length].std(0) for s in starts]

    def finish(self, lip_map: NDArray[np.float32], lip_bias: NDArray[np.float32]) -> MotionStatistics:
        """Statistics with a lip map [L, 20] and its bias [L].

        Raises BadInput when there was no clip.
        """
        if not self._moves:
            raise BadInput("there are no clips to fit statistics on", fix="choose another split or selection")
        mean, heard = self._sum / self._frames, self._heard / self._frames
        within, speed = self._within / self._frames, self._speed / self._moves
        # Both ends of m - m^i come from the same clip, so it has mean 0 and twice the variance within clips.
        offset_std = np.sqrt(2.0) * np.sqrt(np.diag(within)).clip(0.01)
        sigma = np.full((len(self._lengths), MOTION_DIM), 0.1)
        for row, spreads in enumerate(self._spreads):
            sigma[row] = np.median(spreads, axis=0) if spreads else sigma[max(0, row - 1)]
        scales = (
            np.diag(speed) @ offset_std**-2.0 / MOTION_DIM,
            np.trace(lip_map @ within @ lip_map.T) / len(lip_map),
            np.trace(lip_map @ speed @ lip_map.T) / len(lip_map),
        )
        values = {
            "offset_mean": np.zeros(MOTION_DIM),
            "offset_std": offset_std,
            "hint_mean": mean,
            "hint_std": np.sqrt((self._square / self._frames - mean**2).clip(0)).clip(0.02),
            "speech_mean": heard,
            "speech_std": np.sqrt((self._loud / self._frames - heard**2).clip(0)).clip(1e-3),
            "sigma": sigma.clip(1e-4),
            "lip_map": lip_map,
            "lip_bias": lip_bias,
            "lip_mean": mean @ lip_map.T + lip_bias,
            "scales": np.array(scales) + 1e-6,
            "completion": completion(lip_map, within.astype(np.float32)),
        }
        return MotionStatistics({name: torch.as_tensor(v, dtype=torch.float32) for name, v in values.items()})


def fit_motion_statistics(
    clips: Iterable[tuple[NDArray[np.float32], NDArray[np.floating]]],
    config: MotionConfig,
    lip_map: NDArray[np.float32],
    lip_bias: NDArray[np.float32],
) -> MotionStatistics:
    """Statistics of clips (motion [n, 20], speech [n, S]). Raises BadInput when there are none."""
    fitter = StatisticsFitter(config)
    for motion, speech in clips:
        fitter.add(motion, speech)
    return fitter.finish(lip_map, lip_bias)
