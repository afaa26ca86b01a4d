"""Clips with quiet audio put in: the lips close while the head goes on (model trained to be still in silence).

A plan says where how much of what quiet goes into a clip; it changes the sound before it is encoded, and later the
motion of the same frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput

Array = NDArray[np.float32]

LEVELS_DBFS = (None, -60.0, -40.0)
"""Digital zero, and room tone of these levels."""
EASE = 4
"""Frames in which lips ease between speech and closed."""
SAMPLES_PER_FRAME = 640
"""16 kHz at 25 frames a second."""


def quiet_sound(count: int, level: float | None, noise_seed: int) -> Array:
    """Samples [count] of room tone of `level` dBFS; None is digital zero."""
    if level is None:
        return np.zeros(count, np.float32)
    white = np.random.default_rng(noise_seed).standard_normal(count + 15).astype(np.float32)
    tone = np.convolve(white, np.full(16, 1 / 16, np.float32), "valid")  # room tone has little treble
    return (tone / tone.std() * 10 ** (level / 20)).astype(np.float32)


@dataclass(frozen=True)
class SilenceEdit:
    """`count` quiet frames put in before frame `at` of a clip (0: ahead of it, its length: after it)."""

    at: int
    count: int
    level: float | None
    """dBFS of the room tone; None is digital zero."""
    noise_seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, num_frames: int) -> SilenceEdit:
        """A random edit of a clip of `num_frames` >= 16: ahead, after, or within it."""
        where = rng.random()
        if where < 0.3:
            at = 0
        elif where < 0.5:
            at = num_frames
        else:
            at = int(rng.integers(6, num_frames - 5))
        level = LEVELS_DBFS[int(rng.integers(len(LEVELS_DBFS)))]
        return cls(at, int(rng.integers(8, 25)), level, int(rng.integers(2**31)))

    def audio(self, samples: Array) -> Array:
        """Sound [n] with the quiet in it; 5 ms ramps keep the cuts from clicking."""
        cut = min(self.at * SAMPLES_PER_FRAME, len(samples))
        count = self.count * SAMPLES_PER_FRAME
        quiet = quiet_sound(count, self.level, self.noise_seed)
        before, after = samples[:cut].copy(), samples[cut:].copy()
        ramp = np.linspace(0.0, 1.0, 80, dtype=np.float32)
        fade_out, fade_in = min(80, len(before)), min(80, len(after))
        before[len(before) - fade_out :] *= ramp[:fade_out][::-1]
        after[:fade_in] *= ramp[:fade_in]
        return np.concatenate([before, quiet, after])

    def rows(self, num_frames: int) -> NDArray[np.int64]:
        """Which frame of the clip each frame of the edited clip takes its pose from, [num_frames + count].

        Quiet frames run on from the cut and back to it (or towards it, at the ends), so pose never jumps.
        """
        step = np.arange(self.count)
        if self.at == 0:
            path = self.count - step  # comes towards frame 0
        elif self.at >= num_frames:
            path = num_frames - 2 - step  # goes back from the last frame
        else:
            there_and_back = np.minimum(step + 1, self.count - step)
            room = num_frames - self.at > self.count // 2 + 1
            path = self.at - 1 + there_and_back if room else self.at - there_and_back
        path = np.abs(path)  # reflected at the first frame
        path = np.where(path >= num_frames, 2 * (num_frames - 1) - path, path).clip(0, num_frames - 1)
        return np.concatenate([np.arange(self.at), path, np.arange(self.at, num_frames)]).astype(np.int64)

    def closing(self, num_frames: int) -> Array:
        """How far lips are closed in each frame of the edited clip, [num_frames + count] in [0, 1]."""
        frame = np.arange(num_frames + self.count)
        since, until = frame - self.at + 1, self.at + self.count - frame
        if self.at == 0:
            since = np.full_like(since, EASE)
        if self.at >= num_frames:
            until = np.full_like(until, EASE)
        inside = (frame >= self.at) & (frame < self.at + self.count)
        share = np.clip(np.minimum(since, until) / EASE, 0.0, 1.0)
        return np.where(inside, 0.5 - 0.5 * np.cos(np.pi * share), 0.0).astype(np.float32)


def completion(lip_map: Array, covariance: Array) -> Array:
    """[20, L]: the most plausible change of m for a change of lips, given how m varies within clips.

    Raises BadInput where the lips do not move, by that map and in those clips.
    """
    spread = lip_map @ covariance @ lip_map.T  # [L, L]
    if not np.trace(spread) > 0:
        raise BadInput(
            "no lips move in the training clips, by the autoencoder's lip map",
            fix="take an autoencoder with a lip map (that of a trained bundle), and clips in which people talk",
        )
    ridge = 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))
    return np.asarray(covariance @ lip_map.T @ np.linalg.inv(spread + ridge), np.float32)


def close_lips(motion: Array, closed: Array, closing: Array, lip_map: Array, back: Array) -> Array:
    """Motion [n, 20] with lips moved towards those of `closed` [20] by shares `closing` [n]; the rest stays.

    `back` is `completion(lip_map, ...)`.
    """
    change = (closed[None] - motion) @ lip_map.T * closing[:, None]  # [n, L]
    return np.clip(motion + change @ back.T, -0.999, 0.999).astype(np.float32)
