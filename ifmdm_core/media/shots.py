"""Where one shot ends and the next begins.

Every frame leaves a small signature (its colours and its layout); a cut is where signatures before and after differ
like two scenes, more than the video's own motion around it, and go on differing: a flash comes back, a cut does not.
Fades and dissolves are no cuts here; the face is followed through them or lost.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

GRID = 16  # rows and columns of the layout
BINS = (8, 4, 4)  # of hue, saturation and value
CUT = 0.40  # least distance of two scenes
SUSPECT = 0.22  # a distance worth a fresh look for faces, before it is known whether it is a cut
MOTION = 3.0  # a cut is so many times as far as the frames around it usually are
AROUND = 12  # frames before and after that tell how much the video moves by itself
FLASH = 3  # frames; a picture that is back within them was only interrupted
MIN_SHOT = 5  # frames; two cuts closer than this are one transition

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Signature:
    """What is kept of one frame: colours [128] that sum to 1, layout [256] with mean 0 and length 1 (0 if flat)."""

    colours: Floats
    layout: Floats


def signature(image: Image) -> Signature:
    """The signature of an RGB frame [H, W, 3]."""
    small = cv2.resize(image, (4 * GRID, 4 * GRID), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, list(BINS), [0, 180, 0, 256, 0, 256]).ravel()  # [128]
    grey = cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (GRID, GRID), interpolation=cv2.INTER_AREA)
    layout = grey.astype(np.float32).ravel()  # [256]
    layout -= layout.mean()
    length = float(np.linalg.norm(layout))
    layout = layout / length if length > 2 * GRID else np.zeros_like(layout)  # below 2 levels: a flat picture
    return Signature((counts / counts.sum()).astype(np.float32), layout)


def distance(a: Signature, b: Signature) -> float:
    """How far two frames are apart, 0 (the same) to 1: the mean of their colours' and their layouts' distance.

    Layout is compared without brightness and contrast, so light that changes moves only half of it.
    """
    colours = 0.5 * float(np.abs(a.colours - b.colours).sum())
    if not a.layout.any() or not b.layout.any():
        layout = float(a.layout.any() != b.layout.any())
    else:
        layout = min(1.0, 1.0 - float(a.layout @ b.layout))
    return 0.5 * (colours + layout)


def suspicious(before: Signature, after: Signature) -> bool:
    """Whether a cut may lie between two consecutive frames; what `shot_starts` decides once it has seen more."""
    return distance(before, after) > SUSPECT


def shot_starts(signatures: list[Signature]) -> list[int]:
    """The first frame of every shot, ascending, from the signatures of consecutive frames; [0] for one shot."""
    if not signatures:
        return []
    steps = np.array([distance(a, b) for a, b in itertools.pairwise(signatures)])  # [n - 1]
    starts = [0]
    for k in np.flatnonzero(steps > CUT).tolist():  # between frames k and k + 1
        around = np.concatenate([steps[max(0, k - AROUND) : k], steps[k + 1 : k + 1 + AROUND]])
        usual = float(np.median(around)) if len(around) else 0.0
        if steps[k] <= MOTION * usual or k + 1 - starts[-1] < MIN_SHOT:
            continue
        if not _interrupted(signatures, k):
            starts.append(k + 1)
    return starts


def _interrupted(signatures: list[Signature], k: int) -> bool:
    """Whether the picture before the step from k to k + 1 is back soon, or was itself only an interruption."""
    after = signatures[k + 2 : k + 2 + FLASH]
    if any(distance(signatures[k], later) < CUT / 2 for later in after):
        return True
    before = signatures[max(0, k - FLASH) : k]
    return any(distance(signatures[k + 1], earlier) < CUT / 2 for earlier in before)
