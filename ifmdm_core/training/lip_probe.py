"""The linear map from motion vectors to lips, fitted on pictures: for motion of an encoder that no bundle tells of.

Our own face net measures the lips; a ridge regression finds them in the motion (model.md 5: without a lip term head
pose drowns the lips).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.mouth import jaw_opening, lifted, mouth_points
from ifmdm_core.training.crop_meshes import CropMeshes
from ifmdm_core.training.motion_data import MotionClip, fit_lip_map

Array = NDArray[np.float32]
FEWEST = 200
"""Frames with a face that a map needs."""


def probe_lips(
    clips: Sequence[tuple[NDArray[np.uint8], Array]], dims: int, finder: CropMeshes | None = None
) -> tuple[Array, Array]:
    """Lip map [dims, 20] and bias [dims] from clips of pictures [n, S, S, 3] with their motion [n, 20].

    The first measurement is the opening, the others are the components of mouth shape that vary most within clips;
    each has deviation 1 within clips.

    Raises:
        BadInput: too few frames with a face.
    """
    finder = finder or CropMeshes.load()
    meshes: list[Array] = []
    moves: list[Array] = []
    for pictures, motion in clips:
        points, seen = finder(pictures)
        if seen.sum() >= 2:
            meshes.append(lifted(points[seen]))
            moves.append(motion[seen])
    count = sum(map(len, moves))
    if count < FEWEST:
        raise BadInput(
            f"a face is seen in {count} of {sum(len(m) for _, m in clips)} frames, a lip map needs {FEWEST}",
            fix="give a bundle with the encoders that made the features as `reference`, or choose other clips",
        )
    gaps = [jaw_opening(mesh)[:, None] for mesh in meshes]  # [n, 1]
    shapes = [mouth_points(mesh).reshape(len(mesh), -1) for mesh in meshes]  # [n, 141]
    deviations = np.concatenate([shape - shape.mean(0) for shape in shapes])
    basis = np.linalg.eigh(deviations.T @ deviations)[1][:, ::-1][:, : dims - 1]  # [141, dims - 1]
    lips = [np.concatenate([gap, shape @ basis], 1) for gap, shape in zip(gaps, shapes, strict=True)]
    spread = np.concatenate([part - part.mean(0) for part in lips]).std(0) + 1e-8
    ends = np.cumsum([len(part) for part in moves])
    rows = [
        MotionClip(str(k), "train", "clip", int(end - len(part)), len(part))
        for k, (part, end) in enumerate(zip(moves, ends, strict=True))
    ]
    return fit_lip_map(np.concatenate(moves), (np.concatenate(lips) / spread).astype(np.float32), rows)
