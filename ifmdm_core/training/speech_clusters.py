"""Kinds of sound, found without labels: clusters of mel frames on the speech encoder's token grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.metrics.mel import log_mel
from ifmdm_core.training.speech_model import CLUSTERS

Array = NDArray[np.float32]


def mel_tokens(samples: Tensor) -> Tensor:
    """Level-free mel frames at 50 Hz with their slope, on the encoder's token grid: [b, n] -> [b, t, 80]."""
    mel = log_mel(samples, 40).transpose(-1, -2)  # [b, t100, 40]
    mel = mel - mel.mean((-1, -2), keepdim=True)
    count = (samples.shape[-1] - 720) // 320 + 1
    first = mel[:, 2 : 2 * count + 2 : 2]  # token k is centred on sample 320 k + 360, mel column j on 160 j
    second = mel[:, 3 : 2 * count + 3 : 2]
    return torch.cat([(first + second) / 2, second - first], -1)


def cluster_mels(recordings: list[Array], rng: np.random.Generator, rounds: int = 12) -> Tensor:
    """k-means centres [100, 80] of the mel frames of a sample of the recordings."""
    chosen = rng.choice(len(recordings), min(len(recordings), 300), replace=False)
    frames = torch.cat([mel_tokens(torch.from_numpy(recordings[i])[None, : 16 * 8000])[0] for i in chosen])
    frames = frames[torch.from_numpy(rng.choice(len(frames), min(len(frames), 20000), replace=False))]
    centres = frames[:CLUSTERS].clone()
    for _ in range(rounds):
        nearest = torch.cdist(frames, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, frames)
        counts = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres
