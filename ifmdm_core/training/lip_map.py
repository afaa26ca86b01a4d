"""The linear map from motion vectors to lips, from pictures: how the flow of the lower face follows from motion.

Stage 2 needs it so that head pose does not drown the lips. A bundle brings one; for a new motion encoder it is fitted
here on some frames of the training clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.training.crop_meshes import CropMeshes
from ifmdm_core.training.mouth_flow import measure_flows, mouth_flow

Array = NDArray[np.float32]

LEAST_FRAMES = 100
"""Frames with a face that a fit needs."""
LEAST_PER_CLIP = 4
"""Frames of a clip below which nothing is known of how its mouth varies."""
RIDGE = 1e-3
"""Variance of m that is added, against directions that hardly vary."""


@dataclass(frozen=True)
class LipMap:
    """From m to lips: `matrix` [L, 20], `bias` [L]; the opening first, in units of its spread within clips."""

    matrix: Array
    bias: Array
    r2: tuple[float, ...] = ()
    """[L]: variance of lips within clips that it explains, on every fourth clip, which the figure's fit leaves out."""
    frames: int = 0
    """It was fitted on."""


def fit_picture_lip_map(clips: Iterable[tuple[Array, NDArray[np.uint8]]], dims: int = 6) -> LipMap:
    """Ridge regression from motion to lips on deviations from clip means (speech moves lips within a clip).

    Args:
        clips: motion [n, 20] and the very frames [n, S, S, 3] of it, cut as a dataset's clips are. Frames without a
            face are left out.
        dims: lip measurements.

    Raises:
        BadInput: too few frames have a face. NotFound: the package lacks the face net.
    """
    see = CropMeshes.load()
    motion: list[Array] = []
    flows: list[Array] = []
    for vectors, frames in clips:
        points, sure = see(frames)
        if sure.sum() >= LEAST_PER_CLIP:
            motion.append(vectors[sure])
            flows.append(mouth_flow(frames[sure], points[sure] * frames.shape[1]))
    count = sum(map(len, motion))
    if count < LEAST_FRAMES:
        raise BadInput(
            f"{count} frames with a face are too few to fit a lip map on, {LEAST_FRAMES} are needed",
            fix="give a bundle with the encoder that made the motion, or a dataset with more clips",
        )
    lips = measure_flows(flows, dims)
    tested = range(0, len(motion), 4)
    learned = [k for k in range(len(motion)) if k % 4]
    r2: tuple[float, ...] = ()
    if learned:
        guess = np.concatenate([_deviations(motion[k]) for k in tested]) @ _ridge(motion, lips, learned)
        truth = np.concatenate([_deviations(lips[k]) for k in tested])
        unexplained = ((truth - guess) ** 2).sum(0) / (truth**2).sum(0).clip(1e-9)
        r2 = tuple(round(float(value), 3) for value in 1 - unexplained)
    solution = _ridge(motion, lips, range(len(motion)))  # [20, L]
    bias = np.concatenate(lips).mean(0) - np.concatenate(motion).mean(0) @ solution
    return LipMap(solution.T.astype(np.float32), bias.astype(np.float32), r2, count)


def _deviations(values: Array) -> Array:
    return values - values.mean(0)


def _ridge(motion: Sequence[Array], lips: Sequence[Array], clips: Sequence[int]) -> Array:
    x = np.concatenate([_deviations(motion[k]) for k in clips])
    y = np.concatenate([_deviations(lips[k]) for k in clips])
    return np.asarray(np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y), np.float32)
