"""Log-mel spectrograms at 100 Hz: what the sync scorers hear and what the k-means of speech training clusters."""

import functools

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16000
HOP = 160
"""Samples between mel frames: 100 Hz."""
WINDOW = 400
"""Samples of one analysis window: 25 ms."""
NUM_MELS = 64


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)


def mel_centres(count: int, low: float, high: float) -> np.ndarray:
    """`count` frequencies in Hz, evenly spaced on the mel scale from `low` to `high` Hz."""
    mels = np.linspace(_mel(low), _mel(high), count)
    return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)


@functools.lru_cache(maxsize=4)
def _filters(num_mels: int) -> Tensor:
    edges = mel_centres(num_mels + 2, 40.0, 7800.0)
    bins = np.linspace(0.0, SAMPLE_RATE / 2, 257)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-3)
    return torch.from_numpy(weights.astype(np.float32))


def log_mel(samples: Tensor, num_mels: int = NUM_MELS) -> Tensor:
    """Log-mel energies of 16 kHz audio.

    Args:
        samples: float [..., n], 16 kHz, in [-1, 1].
        num_mels: bands between 40 and 7800 Hz.

    Returns:
        float [..., num_mels, n // 160 + 1] in nepers; column k is centred on sample 160 k. The ends are
        padded with silence, so the first and last two columns see less signal.
    """
    window = torch.hann_window(WINDOW, device=samples.device)
    flat = samples.reshape(-1, samples.shape[-1]).float()  # [b, n]
    spectrum = torch.stft(
        flat, 512, HOP, WINDOW, window, center=True, pad_mode="constant", return_complex=True
    )
    power = spectrum.real**2 + spectrum.imag**2  # [b, 257, t]
    energies = _filters(num_mels).to(samples.device) @ power  # [b, mels, t]
    return torch.log(energies + 1e-5).reshape(*samples.shape[:-1], num_mels, -1)
