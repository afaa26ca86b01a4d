"""Synthetic speech with known mouth shapes: random syllables of the formant synthesiser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.speech import SAMPLE_RATE
from ifmdm_core.speech_synthesis import PHONES, lip_track, synthesize_phones
from ifmdm_core.training.dataset import FPS
from ifmdm_core.training.items import SAMPLES_PER_FRAME

Array = NDArray[np.float32]

VISEMES = (
    ("sil",), ("p", "b", "m"), ("f", "v"), ("t", "d", "n", "s", "z", "l"), ("k", "g", "h"), ("sh",),
    ("a",), ("ae",), ("e", "uh"), ("i", "y"), ("o",), ("u", "w", "r"),
)  # fmt: skip
"""Groups of the synthesiser's phones that look alike."""


def babble(rng: np.random.Generator) -> tuple[Array, Array]:
    """About 4 s of synthetic speech and, per frame, (viseme number, opening, rounding) [T, 3]."""
    vowels = [name for name, phone in PHONES.items() if phone.voice >= 0.9 and not phone.closure]
    others = [name for name in PHONES if name not in vowels and name != "sil"]
    phones: list[tuple[str, float]] = [("sil", float(rng.uniform(0.05, 0.4)))]
    while sum(length for _, length in phones) < 4.0:
        phones += [
            (str(rng.choice(others)), float(rng.uniform(0.05, 0.12))),
            (str(rng.choice(vowels)), float(rng.uniform(0.06, 0.22))),
        ]
        if rng.random() < 0.1:
            phones.append(("sil", float(rng.uniform(0.1, 0.5))))
    samples, times = synthesize_phones(
        phones, SAMPLE_RATE, float(rng.uniform(80, 260)), int(rng.integers(1 << 30))
    )
    frames = len(samples) // SAMPLES_PER_FRAME
    number = {phone: i for i, group in enumerate(VISEMES) for phone in group}
    starts = np.array([time.start for time in times])
    at = np.searchsorted(starts, np.arange(frames) / FPS, side="right") - 1
    classes = np.array([number[times[i].phone] for i in at], np.float32)
    return samples, np.concatenate([classes[:, None], lip_track(times, FPS, frames)], 1)
