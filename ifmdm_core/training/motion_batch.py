"""Training windows of stage 2: which frames, hint, context, dropped conditions, time and noise each sample gets.

Everything random about sample i of a step comes from (seed, step, i) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ifmdm_core.motion.config import MOTION_DIM, MotionConfig
from ifmdm_core.motion.diffusion import LIMIT
from ifmdm_core.motion.transformer import Conditions, MotionGenerator
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.motion_data import MotionClip, MotionSet

STEP_INDEX = 2**32
"""Sample index of what a whole step decides."""


@dataclass(frozen=True)
class Augmentation:
    """Shares and strengths, all in [0, 1] unless said otherwise."""

    silence: float = 0.15
    """Samples from clips with quiet audio put in."""
    drop: float = 0.1
    """Each of speech, mean, std, hint dropped on its own; and speech, mean and std together."""
    context: float = 0.5
    """Samples that get clean frames before the new ones."""
    amplitude: float = 0.3
    """Samples whose motion is scaled about its mean, so that statistics beyond the data's are met too."""
    amplitude_range: tuple[float, float] = (0.4, 2.2)
    """Factors, drawn evenly in log."""
    speech_noise: float = 0.1
    """Deviation of noise added to speech features, in units of theirs."""
    long: float = 0.4
    """Steps that draw windows longer than `short` frames, from clips that have them."""
    short: int = 31


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

    def to(self, device: str | torch.device) -> MotionBatch:
        """The same batch on another device."""
        given = Conditions(**{name: value.to(device) for name, value in self.given.__dict__.items()})
        return MotionBatch(given, self.z.to(device), self.t.to(device), self.noise.to(device))


class WindowDrawer:
    """Draws batches from the training clips of a motion set."""

    def __init__(
        self, data: MotionSet, model: MotionGenerator, seed: int, augmentation: Augmentation | None = None
    ) -> None:
        self.data = data
        self.config: MotionConfig = model.config
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        self.longest = self.config.window + self.config.context
        self.offset_std = model.offset_std.cpu().numpy()
        self.offset_mean = model.offset_mean.cpu().numpy()
        self.speech_std = model.speech_std.cpu().numpy()
        self._pools = {
            (silence, least): _Pool([c for c in data.of("train", silence) if c.num_frames >= least])
            for silence in (False, True)
            for least in (self.config.min_window, self.augmentation.short + 1)
        }

    def draw(self, step: int, size: int) -> MotionBatch:
        """The batch of a step: windows of min_window .. window + context frames."""
        a = self.augmentation
        whole = sample_rng(self.seed, step, STEP_INDEX)
        long = bool(whole.random() < a.long) and len(self._pools[False, a.short + 1]) > 0
        least = a.short + 1 if long else self.config.min_window
        most = self.longest if long else min(a.short, self.longest)
        rows = [self._sample(sample_rng(self.seed, step, i), least, most) for i in range(size)]
        longest = max(len(row["z"]) for row in rows)

        def padded(name: str) -> Tensor:
            out = np.zeros((size, longest, rows[0][name].shape[1]), np.float32)
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
        return MotionBatch(given, padded("z"), stacked("t"), padded("noise"))

    def _sample(self, rng: np.random.Generator, least: int, most: int) -> dict[str, np.ndarray]:
        a, config = self.augmentation, self.config
        silence = bool(rng.random() < a.silence) and len(self._pools[True, least]) > 0
        clip = self._pools[silence, least].draw(rng)
        length = int(rng.integers(least, min(most, clip.num_frames) + 1))
        start = clip.first + int(rng.integers(0, clip.num_frames - length + 1))
        hint = self.data.motion[clip.first + int(rng.integers(0, clip.num_frames))]  # [20]
        motion = self.data.motion[start : start + length]  # [n, 20]
        speech = self.data.speech[start : start + length].astype(np.float32)  # [n, S]
        if rng.random() < a.amplitude:
            low, high = np.log(a.amplitude_range)
            factor, centre = np.exp(rng.uniform(low, high)), motion.mean(0)
            motion = np.clip(centre + factor * (motion - centre), -LIMIT, LIMIT).astype(np.float32)
            hint = np.clip(centre + factor * (hint - centre), -LIMIT, LIMIT).astype(np.float32)
        noise = rng.standard_normal(speech.shape, dtype=np.float32)
        speech = (speech + a.speech_noise * self.speech_std * noise).astype(np.float32)
        held = config.context if rng.random() < a.context and length >= config.context + 8 else 0
        z = (motion - hint - self.offset_mean) / self.offset_std  # [n, 20]
        new = z[held:]
        together = rng.random() < a.drop
        keep = [not (together or rng.random() < a.drop) for _ in range(3)]
        return {
            "speech": speech,
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
            "noise": rng.standard_normal((length, MOTION_DIM), dtype=np.float32),
        }


class _Pool:
    """Clips, drawn in proportion to their frames."""

    def __init__(self, clips: list[MotionClip]) -> None:
        self.clips = clips
        self.ends = np.cumsum([clip.num_frames for clip in clips])

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, rng: np.random.Generator) -> MotionClip:
        return self.clips[int(np.searchsorted(self.ends, rng.integers(0, self.ends[-1]), side="right"))]
