"""The look of an aligned face: a perceptual hash, by which copies of one picture are known again.

The signs of the low frequencies of a face's crop, as in the well-known pHash, with more of them: crops of faces are all
built alike. It finds the same photo, scaled, compressed, brightened or mirrored. It knows no people: another photo
of the same person looks as different as a stranger's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE, FREQUENCIES = 64, 16
BITS = FREQUENCIES * FREQUENCIES
NEAR = 52
"""Most bits in which copies differ; docs/threat-model.md has what was measured."""


def look(crop: NDArray[np.uint8]) -> str:
    """The look of a crop [S, S, 3] RGB of any size: 64 hex digits."""
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(small.astype(np.float32))[:FREQUENCIES, :FREQUENCIES].ravel()
    signs = waves > np.median(waves[1:])  # the first is the mean brightness, which says nothing
    signs[0] = False
    return np.packbits(signs).tobytes().hex()


def looks(crop: NDArray[np.uint8]) -> tuple[str, str]:
    """Its look, and that of its mirror image."""
    return look(crop), look(crop[:, ::-1])
