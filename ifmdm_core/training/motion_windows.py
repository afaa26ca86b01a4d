"""One training window of stage 2: which frames, hint, context, dropped conditions, time and noise a sample gets.

Everything random comes from the sample's own generator, so a sample is the same in any batch on any process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ifmdm_core.motion.config import MOTION_DIM, MotionConfig
from ifmdm_core.motion.diffusion import LIMIT
from ifmdm_core.motion.transformer import Conditions, MotionGenerator
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.silence import SilenceEdit, close_lips

Array = NDArray[np.float32]

STEP_INDEX = 2**32
"""Sample index of what a whole step decides."""


class Augmentation(BaseModel):
    """What is done to windows; shares are of samples, in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    silence: float = Field(0.15, ge=0, le=1, description="share of samples with quiet audio put in")
    drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share at which speech, mean, std and hint are dropped, each alone; and the first three together",
    )
    context: float = Field(
        0.5, ge=0, le=1, description="share of samples that get clean frames before the new ones"
    )
    amplitude: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share whose motion is scaled about its mean, so that statistics beyond the data's are met too",
    )
    amplitude_range: tuple[float, float] = Field(
        (0.4, 2.2), description="lowest and highest factor, drawn evenly in log"
    )
    speech_noise: float = Field(
        0.1, ge=0, description="deviation of noise added to speech features, in units of theirs"
    )
    long: float = Field(
        0.4, ge=0, le=1, description="share of steps with windows longer than `short`, where clips have them"
    )
    short: int = Field(31, gt=0, description="frames of the longest window of the other steps")

    @classmethod
    def none(cls) -> Augmentation:
        """Windows as they are."""
        return cls(silence=0.0, drop=0.0, context=0.0, amplitude=0.0, speech_noise=0.0)


@dataclass(frozen=True)
class MotionBatch:
    """B windows of N frames, padded."""

    given: Conditions
    z: Tensor
    """[B, N, 20] clean."""
    t: Tensor
    """[B] int64 in 0..T-1."""
    noise: Tensor
    """[B, N, 20]."""
    kept: Tensor | None = None
    """[B, depth, 2, d] bool: channels that dropout leaves; None: the network drops by itself."""
    share_kept: float = 1.0
    """1 - dropout."""

    def to(self, device: str | torch.device) -> MotionBatch:
        """The same batch on another device."""
        return self._map(lambda value: value.to(device, non_blocking=True))

    def pinned(self) -> MotionBatch:
        """The same in memory that a GPU can copy from while it works."""
        return self._map(lambda value: value.pin_memory())

    def new_frames(self) -> Tensor:
        """How many frames are to be predicted, float32 []."""
        return (self.given.valid & ~self.given.context).sum().float()

    def dropout(self) -> Tensor | None:
        """Factors of the network's channels, for `MotionGenerator.forward`."""
        return None if self.kept is None else self.kept / self.share_kept

    def _map(self, change) -> MotionBatch:  # type: ignore[no-untyped-def]
        given = Conditions(**{name: change(value) for name, value in self.given.__dict__.items()})
        kept = None if self.kept is None else change(self.kept)
        return replace(
            self, given=given, z=change(self.z), t=change(self.t), noise=change(self.noise), kept=kept
        )


@dataclass(frozen=True)
class Quiet:
    """What is needed to put silence into a window."""

    features: NDArray[np.float16]
    """[levels, frames, S] of quiet sounds."""
    lip_map: Array
    """[L, 20]"""
    completion: Array
    """[20, L], see `silence.completion`."""

    def insert(
        self, rng: np.random.Generator, motion: Array, speech: Array, closed: Array, most: int
    ) -> tuple[Array, Array]:
        """Motion [n, 20] and speech [n, S] with quiet frames put in, at most `most` frames.

        Lips ease to those of `closed` [20], a frame of the clip with its mouth shut; the pose goes on.
        """
        count = len(motion)
        edit = SilenceEdit.draw(rng, count)
        sound = self.features[int(rng.integers(len(self.features)))]  # [frames, S]
        first = int(rng.integers(0, max(1, len(sound) - edit.count + 1)))
        quiet = np.resize(sound[first : first + edit.count].astype(np.float32), (edit.count, speech.shape[1]))
        heard = np.concatenate([speech[: edit.at], quiet, speech[edit.at :]])
        moved = close_lips(
            motion[edit.rows(count)], closed, edit.closing(count), self.lip_map, self.completion
        )
        start = int(rng.integers(0, max(0, len(moved) - most) + 1))
        return moved[start : start + most], heard[start : start + most]


class WindowMaker:
    """Draws windows from clips, in the units of a generator's statistics."""

    def __init__(
        self, model: MotionGenerator, augmentation: Augmentation, quiet: Quiet | None = None
    ) -> None:
        """`quiet` None: no silence is put in here."""
        self.config: MotionConfig = model.config
        self.augmentation, self.quiet = augmentation, quiet
        self.offset_std = model.offset_std.cpu().numpy().copy()
        self.offset_mean = model.offset_mean.cpu().numpy().copy()
        self.speech_std = model.speech_std.cpu().numpy().copy()

    @property
    def longest(self) -> int:
        """Frames of the longest window."""
        return self.config.window + self.config.context

    def lengths(self, seed: int, step: int, long_exist: bool = True) -> tuple[int, int]:
        """Least and most frames of the windows of a step: alike within it, or padding would be most of it."""
        a = self.augmentation
        if sample_rng(seed, step, STEP_INDEX).random() < a.long and long_exist:
            return a.short + 1, self.longest
        return self.config.min_window, min(a.short, self.longest)

    def draw(
        self,
        rng: np.random.Generator,
        motion: Array,
        speech: NDArray[np.floating],
        least: int,
        most: int,
        silent: bool = False,
    ) -> dict[str, np.ndarray]:
        """A window of `least` to `most` frames (fewer of a shorter clip) of a clip: motion [n, 20], speech [n, S].

        `silent` puts quiet audio in.
        """
        a, config = self.augmentation, self.config
        length = int(rng.integers(min(least, len(motion)), min(most, len(motion)) + 1))
        start = int(rng.integers(0, len(motion) - length + 1))
        hint = motion[int(rng.integers(0, len(motion)))]  # [20]
        clip, motion = motion, motion[start : start + length]  # [n, 20]
        heard = speech[start : start + length].astype(np.float32)  # [n, S]
        if silent and self.quiet is not None and length >= 16:
            closed = clip[int((clip @ self.quiet.lip_map[0]).argmin())]
            motion, heard = self.quiet.insert(rng, motion, heard, closed, most)
        if rng.random() < a.amplitude:
            low, high = np.log(a.amplitude_range)
            factor, centre = np.exp(rng.uniform(low, high)), motion.mean(0)
            motion = np.clip(centre + factor * (motion - centre), -LIMIT, LIMIT).astype(np.float32)
            hint = np.clip(centre + factor * (hint - centre), -LIMIT, LIMIT).astype(np.float32)
        noise = rng.standard_normal(heard.shape, dtype=np.float32)
        heard = (heard + a.speech_noise * self.speech_std * noise).astype(np.float32)
        held = config.context if rng.random() < a.context and len(motion) >= config.context + 8 else 0
        z = (motion - hint - self.offset_mean) / self.offset_std  # [n, 20]
        new = z[held:]
        together = rng.random() < a.drop
        keep = [not (together or rng.random() < a.drop) for _ in range(3)]
        return {
            "speech": heard,
            "z": z.astype(np.float32),
            "mean": new.mean(0).astype(np.float32),
            "std": new.std(0).astype(np.float32),
            "hint": hint.astype(np.float32),
            "context": np.int64(held),
            "has_speech": np.bool_(keep[0]),
            "has_mean": np.bool_(keep[1]),
            "has_std": np.bool_(keep[2]),
            "has_hint": np.bool_(rng.random() >= a.drop),
            "t": rng.integers(0, config.timesteps),
            "noise": rng.standard_normal((len(z), MOTION_DIM), dtype=np.float32),
        }

    def draw_dropout(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """[depth, 2, d]: which channels of each block's branches a sample keeps."""
        shape = (self.config.depth, 2, self.config.width)
        return rng.random(shape, dtype=np.float32) >= self.config.dropout


def stack_windows(rows: Sequence[Mapping[str, np.ndarray]], share_kept: float = 1.0) -> MotionBatch:
    """The windows of `WindowMaker.draw` as one batch, padded to the longest; `kept` is taken where all have it."""
    longest = max(len(row["z"]) for row in rows)

    def padded(name: str) -> Tensor:
        out = np.zeros((len(rows), longest, rows[0][name].shape[1]), np.float32)
        for target, row in zip(out, rows, strict=True):
            target[: len(row[name])] = row[name]
        return torch.from_numpy(out)

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([row[name] for row in rows]))

    frame = torch.arange(longest)[None]
    given = Conditions(
        speech=padded("speech"),
        mean=stacked("mean"),
        std=stacked("std"),
        hint=stacked("hint"),
        valid=frame < torch.tensor([len(row["z"]) for row in rows])[:, None],
        context=frame < stacked("context")[:, None],
        has_speech=stacked("has_speech"),
        has_mean=stacked("has_mean"),
        has_std=stacked("has_std"),
        has_hint=stacked("has_hint"),
    )
    kept = stacked("kept") if "kept" in rows[0] else None
    return MotionBatch(given, padded("z"), stacked("t"), padded("noise"), kept, share_kept)
