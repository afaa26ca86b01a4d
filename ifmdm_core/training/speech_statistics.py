"""What the speech training has before its first step: scales of lips, kinds of sound, synthetic speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ifmdm_core.errors import BadInput
from ifmdm_core.training.items import SAMPLES_PER_FRAME, SpokenClip
from ifmdm_core.training.speech_babble import babble
from ifmdm_core.training.speech_clusters import cluster_mels
from ifmdm_core.training.statistics_file import load_statistics, save_statistics

NAMES = ("deviation", "speeds", "centres", "babble", "mouths")
RECORDING_FRAMES = 98
"""Of a synthetic recording: a little less than its 4 s."""


@dataclass(frozen=True)
class SpeechStatistics:
    """All of it, as tensors with names."""

    tensors: dict[str, Tensor]
    """`deviation` [L] of lips within clips, `speeds` [L] of their change in those units, `centres` [100, 80] of sounds;
    `babble` [R, 98 * 640] synthetic speech, `mouths` [R, 98, 3] its visemes, opening, rounding."""

    @classmethod
    def fit(cls, clips: Sequence[SpokenClip], seed: int = 0, recordings: int = 40) -> SpeechStatistics:
        """From a sample of training clips; each synthetic recording takes half a second to make.

        Raises BadInput when there are no clips.
        """
        if not clips:
            raise BadInput("there are no clips to fit statistics on", fix="choose another split or selection")
        within = np.concatenate([clip.lips - clip.lips.mean(0) for clip in clips])
        deviation = within.std(0) + 1e-6
        speeds = np.concatenate([np.diff(clip.lips, axis=0) for clip in clips]).std(0) / deviation + 1e-6
        centres = cluster_mels([clip.samples for clip in clips], np.random.default_rng(seed))
        rng = np.random.default_rng((seed, 17))
        made = [babble(rng) for _ in range(recordings)]
        sounds = np.stack([sound[: RECORDING_FRAMES * SAMPLES_PER_FRAME] for sound, _ in made])
        return cls(
            {
                "deviation": torch.from_numpy(deviation).float(),
                "speeds": torch.from_numpy(speeds).float(),
                "centres": centres,
                "babble": torch.from_numpy(sounds).half(),
                "mouths": torch.from_numpy(np.stack([mouth[:RECORDING_FRAMES] for _, mouth in made])).float(),
            }
        )

    def save(self, path: str | Path) -> None:
        """One safetensors file."""
        save_statistics(path, self.tensors)

    @classmethod
    def load(cls, path: str | Path) -> SpeechStatistics:
        """What `save` wrote. Raises NotFound, or BadInput when it is no such file."""
        return cls(load_statistics(path, NAMES))
