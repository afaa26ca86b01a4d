"""How quiet sounds to a speech encoder: real features of digital zero and of room tone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.training.items import SAMPLES_PER_FRAME
from ifmdm_core.training.silence import LEVELS_DBFS, quiet_sound


def quiet_features(encoder: SpeechEncoder, frames: int = 100) -> NDArray[np.float16]:
    """Features [levels, frames, S] of every level of `silence.LEVELS_DBFS`, at 25 fps."""
    sounds = [quiet_sound(frames * SAMPLES_PER_FRAME, level, 7) for level in LEVELS_DBFS]
    rows = [encoder.encode(sound, 25, frames).cpu().numpy() for sound in sounds]
    return np.stack(rows).astype(np.float16)
