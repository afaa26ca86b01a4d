"""Mel-frequency cepstral coefficients as SyncNet hears them (python_speech_features' defaults at 16 kHz)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512
BANDS, COEFFICIENTS, LIFTER = 26, 13, 22
PREEMPHASIS = 0.97


def mfcc(samples: ArrayLike) -> NDArray[np.float32]:
    """[n, 13] at 100 Hz from 16 kHz sound in [-1, 1]; the first coefficient is the log energy."""
    sound = np.asarray(samples, np.float64) * 32768
    sound = np.append(sound[:1], sound[1:] - PREEMPHASIS * sound[:-1])
    count = 1 + max(0, int(np.ceil((len(sound) - WINDOW) / HOP)))
    sound = np.pad(sound, (0, max(0, (count - 1) * HOP + WINDOW - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP][:count]  # [n, 400]
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2 / FFT  # [n, 257]
    energy = np.log(np.maximum(power.sum(1), np.finfo(float).eps))
    bands = np.log(np.maximum(power @ _bank().T, np.finfo(float).eps))  # [n, 26]
    k, n = np.arange(COEFFICIENTS)[:, None], np.arange(BANDS)[None]
    cosines = np.cos(np.pi * k * (2 * n + 1) / (2 * BANDS)) * np.sqrt(2 / BANDS)
    cosines[0] /= np.sqrt(2)  # orthonormal
    lift = 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    coefficients = (bands @ cosines.T) * lift
    coefficients[:, 0] = energy
    return coefficients.astype(np.float32)


def _bank() -> NDArray[np.float64]:
    """Triangular mel filters [26, 257] from 0 to 8 kHz."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.floor((FFT + 1) * hertz / RATE)
    bank = np.zeros((BANDS, FFT // 2 + 1))
    for j in range(BANDS):
        low, mid, high = bins[j : j + 3]
        rising = np.arange(int(low), int(mid))
        falling = np.arange(int(mid), int(high))
        bank[j, rising] = (rising - low) / (mid - low)
        bank[j, falling] = (high - falling) / (high - mid)
    return bank
