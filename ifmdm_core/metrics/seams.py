"""Seams between windows: do motion or pictures jump where one window ends and the next begins (table 7)?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.bootstrap import Interval


def acceleration(motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """Size of the second difference at each frame, [T] (0 at both ends), from motion [T, dims]."""
    size = np.zeros(len(motion), np.float32)
    if len(motion) > 2:
        size[1:-1] = np.linalg.norm(np.diff(motion, n=2, axis=0), axis=1)
    return size


def seam_ratio(motion: NDArray[np.float32], borders: Sequence[int], seed: int = 0) -> Interval:
    """Mean acceleration at window borders over that elsewhere, with an interval over the borders; 1 is seamless.

    Args:
        motion: [T, dims]; scale the dimensions first if they differ.
        borders: first frames of the windows after the first. The two frames on both sides of each count as border.

    Raises:
        BadInput: no border inside the motion, or nothing between them.
    """
    size = acceleration(motion)
    inside = [b for b in borders if 2 < b < len(motion) - 2]
    near = np.zeros(len(motion), bool)
    for border in inside:
        near[border - 1 : border + 1] = True
    elsewhere = size[1:-1][~near[1:-1]]
    if not inside or not len(elsewhere):
        raise BadInput(f"{len(inside)} borders in {len(motion)} frames", fix="render more than one window")
    base = max(float(elsewhere.mean()), 1e-9)
    at = np.array([size[border - 1 : border + 1].mean() for border in inside]) / base
    rng = np.random.default_rng(seed)
    draws = at[rng.integers(len(at), size=(2000, len(at)))].mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(at.mean()), float(low), float(high))
