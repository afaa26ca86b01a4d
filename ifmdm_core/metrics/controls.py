"""Do pose and intensity do what they say? (paper, section 3.4)"""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Motion = NDArray[np.float32]


class HoldDrift(NamedTuple):
    """How far a held pose has gone from the portrait's own motion."""

    mean: float
    """|mean - m^i| in units of sigma, averaged over the dimensions that move."""
    worst: float


def spread(motions: list[Motion], portraits: list[Motion]) -> float:
    """Measured sigma: deviation of motion [T, 20] about its own mean, root mean square over dimensions and clips.

    Args:
        portraits: m^i [20] of each clip, only to check that they belong together.
    """
    assert len(motions) == len(portraits)
    return float(np.sqrt(np.mean([motion.var(0).mean() for motion in motions])))


def is_monotone(values: list[float]) -> bool:
    """Does every step go up?"""
    return all(b > a for a, b in itertools.pairwise(values))


def hold_drift(motions: list[Motion], portraits: list[Motion], still: float = 0.01) -> HoldDrift:
    """|mean - m^i| / sigma per dimension, over clips; dimensions whose sigma is below `still` are left out."""
    ratios = []
    for motion, portrait in zip(motions, portraits, strict=True):
        deviation = motion.std(0)
        moving = deviation > still
        if moving.any():
            ratios.append((np.abs(motion.mean(0) - portrait) / np.maximum(deviation, 1e-9))[moving])
    flat = np.concatenate(ratios) if ratios else np.zeros(1)
    return HoldDrift(float(flat.mean()), float(flat.max()))
