"""Batches of windows from a motion set in memory; sample i of a step comes from (seed, step, i) alone."""

from __future__ import annotations

import numpy as np

from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.loop import sample_rng
from ifmdm_core.training.motion_data import MotionClip, MotionSet
from ifmdm_core.training.motion_windows import Augmentation, MotionBatch, WindowMaker, stack_windows


class WindowDrawer:
    """Draws batches from the training clips of a motion set."""

    def __init__(
        self, data: MotionSet, model: MotionGenerator, seed: int, augmentation: Augmentation | None = None
    ) -> None:
        self.data, self.seed = data, seed
        self.augmentation = augmentation or Augmentation()
        self.maker = WindowMaker(model, self.augmentation)
        self._pools = {
            (silence, least): _Pool([c for c in data.of("train", silence) if c.num_frames >= least])
            for silence in (False, True)
            for least in (model.config.min_window, self.augmentation.short + 1)
        }

    def draw(self, step: int, size: int) -> MotionBatch:
        """The batch of a step: windows of min_window .. window + context frames."""
        least, most = self.maker.lengths(
            self.seed, step, len(self._pools[False, self.augmentation.short + 1]) > 0
        )
        return stack_windows([self._sample(sample_rng(self.seed, step, i), least, most) for i in range(size)])

    def _sample(self, rng: np.random.Generator, least: int, most: int) -> dict[str, np.ndarray]:
        silence = bool(rng.random() < self.augmentation.silence) and len(self._pools[True, least]) > 0
        rows = self._pools[silence, least].draw(rng).rows
        return self.maker.draw(rng, self.data.motion[rows], self.data.speech[rows], least, most)


class _Pool:
    """Clips, drawn in proportion to their frames."""

    def __init__(self, clips: list[MotionClip]) -> None:
        self.clips = clips
        self.ends = np.cumsum([clip.num_frames for clip in clips])

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, rng: np.random.Generator) -> MotionClip:
        return self.clips[int(np.searchsorted(self.ends, rng.integers(0, self.ends[-1]), side="right"))]
