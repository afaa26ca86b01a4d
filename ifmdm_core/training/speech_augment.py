"""Augmentation of speech: speed with pitch, gain, equaliser, reverberation, noise. The lips must not depend on them."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.speech import NORMALISATION_FLOOR, SAMPLE_RATE

Array = NDArray[np.float32]


def change_speed(samples: Array, values: Array, factor: float, frames: int) -> tuple[Array, Array]:
    """Play `factor` times faster (and higher), lips along: [n] and [T, dim] -> [frames * 640] and [frames, dim]."""
    length = frames * SAMPLE_RATE // 25
    times = np.arange(length, dtype=np.float32) * factor
    stretched = np.interp(times, np.arange(len(samples)), samples).astype(np.float32)
    at = np.minimum(np.arange(frames) * factor, len(values) - 1)
    low = np.minimum(at.astype(int), max(len(values) - 2, 0))
    share = (at - low)[:, None].astype(np.float32)
    high = np.minimum(low + 1, len(values) - 1)
    return stretched, values[low] * (1 - share) + values[high] * share


def roughen(
    samples: Tensor, rng: np.random.Generator, strength: float = 1.0, others: Tensor | None = None
) -> Tensor:
    """Random gain +-12 dB, equaliser +-10 dB, reverberation and noise, each recording its own: [b, n] -> [b, n].

    `others` [b, n] talk in the background of some recordings; None: the recordings of the batch do.
    """
    batch, length = samples.shape
    size = 1 << (length + SAMPLE_RATE // 4).bit_length()
    spectrum = torch.fft.rfft(samples, size)  # [b, f]
    spectrum = spectrum * _equaliser(batch, spectrum.shape[1], rng, 10.0 * strength)
    echo = torch.fft.rfft(_rooms(batch, rng, strength), size)
    rough = torch.fft.irfft(spectrum * echo, size)[:, :length]
    level = rough.square().mean(1, keepdim=True).sqrt().clamp_min(NORMALISATION_FLOOR)
    noise = torch.from_numpy(rng.standard_normal((batch, length), dtype=np.float32))
    # a first difference or a running sum would be blue or brown; a one-pole filter in between is roughly a room's hum
    tint = torch.from_numpy(rng.uniform(0.0, 0.95, (batch, 1)).astype(np.float32))
    noise[:, 1:] += tint * noise[:, :-1]
    others = rough.roll(1, 0) if others is None else others
    babble = torch.from_numpy((rng.random((batch, 1)) < 0.3).astype(np.float32))
    noise = noise / noise.std(1, keepdim=True) + babble * others / others.std(1, keepdim=True).clamp_min(1e-4)
    snr = torch.from_numpy(rng.uniform(8.0, 45.0, (batch, 1)).astype(np.float32))
    rough = rough + level * 10.0 ** (-snr / 20) * noise * strength
    gain = torch.from_numpy(rng.uniform(-12.0, 12.0, (batch, 1)).astype(np.float32))
    return rough * 10.0 ** (gain * strength / 20)


def _equaliser(batch: int, bins: int, rng: np.random.Generator, reach_db: float) -> Tensor:
    """Smooth random gains [b, bins] through 8 points spread over the octaves."""
    points = rng.uniform(-reach_db, reach_db, (batch, 8))
    octave = np.log2(1.0 + np.arange(bins) / bins * 63) / 6 * 7
    low = np.minimum(octave.astype(int), 6)
    curve = points[:, low] * (1 - (octave - low)) + points[:, low + 1] * (octave - low)
    return torch.from_numpy((10.0 ** (curve / 20)).astype(np.float32))


def _rooms(batch: int, rng: np.random.Generator, strength: float) -> Tensor:
    """Impulse responses [b, 0.2 s]: the direct sound, and for half of the recordings a decaying tail."""
    length = SAMPLE_RATE // 5
    decay = rng.uniform(0.02, 0.12, (batch, 1)) * SAMPLE_RATE
    tail = rng.standard_normal((batch, length)) * np.exp(-np.arange(length) / decay)
    tail *= rng.uniform(0.0, 0.5, (batch, 1)) * (rng.random((batch, 1)) < 0.5) * strength
    tail *= 1.0 / np.maximum(np.sqrt(decay / 2), math.sqrt(2))
    tail[:, 0] = 1.0
    return torch.from_numpy(tail.astype(np.float32))


def mask_spans(rng: np.random.Generator, shape: tuple[int, ...], share: float, length: int = 5) -> Tensor:
    """A bool mask [b, t] that covers about `share` of the tokens in spans of `length`; never nothing at all."""
    starts = rng.random(shape) < share / length
    starts[0, 0] = True
    mask = starts.copy()
    for shift in range(1, length):
        mask[:, shift:] |= starts[:, :-shift]
    return torch.from_numpy(mask)
