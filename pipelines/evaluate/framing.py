"""Others' videos brought into the real clip's frame, so that pictures can be compared.

A system that was given the exported portrait shows that square; one that was given the original video, or the real
video itself, is framed as that. Which it is, the place of the face tells.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.media.face import Square, clip_square, crop
from ifmdm_core.media.video import read_frames
from ifmdm_core.metrics.stage import FPS, Landmarks

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]

NEAR = 0.35
"""Framings whose face is off by more than this, in face widths, are not the clip's: the face itself is cut out."""
LOOKS = 5
"""Frames that are looked at to find the framing."""


def framed(
    path: Path,
    seconds: float,
    size: int,
    square: Square,
    original: tuple[int, int],
    truth_meshes: Array,
    landmarks: Landmarks,
) -> tuple[Frames, str]:
    """Frames [T, size, size, 3] of a video at 25 fps in the frame of the real clip's crops, and how they were found.

    Args:
        square: of the real clip in its own video, whose (width, height) is `original`.
        truth_meshes: [T, 478, 3] in the real clip's crops.

    Raises:
        BadInput: the video is damaged or has no frame.
    """
    frames = list(read_frames(str(path), FPS, 0.0, seconds))
    if not frames:
        raise BadInput(f"{path}: has no frame", fix="render it again")
    height, width = frames[0].shape[:2]
    places: dict[str, Square] = {}
    if (
        abs(width / original[0] - height / original[1]) < 0.01
    ):  # framed as the original, maybe at another size
        scale = width / original[0]
        places["as the original"] = (
            square if scale == 1 else Square(square.cx * scale, square.cy * scale, square.side * scale)
        )
    if width == height:
        places["as the portrait"] = Square(width / 2, height / 2, float(width))
    looks = np.linspace(0, len(frames) - 1, LOOKS).astype(int)
    real = _face(truth_meshes)
    distances = {
        name: _distance(_face(landmarks(_cut([frames[k] for k in looks], place, size))), real)
        for name, place in places.items()
    }
    best = min(distances, key=lambda name: distances[name], default=None)
    if best is not None and distances[best] <= NEAR:
        return _cut(frames, places[best], size), best
    meshes = landmarks(np.stack(frames))
    known = meshes[np.isfinite(meshes[:, 0, 0]), :, :2]
    if not len(known):
        if best is None:
            raise BadInput(f"{path}: no face found", fix="leave this video out")
        return _cut(frames, places[best], size), best
    low, high = known.min(1), known.max(1)
    return _cut(frames, clip_square(np.concatenate([low, high - low], 1)), size), "by its face"


def _cut(frames: list[Frames], place: Square, size: int) -> Frames:
    return np.stack([crop(frame, place, size) for frame in frames])


def _face(meshes: Array) -> Array:
    """Median centre and width of the faces, [3]; NaN where there is none."""
    known = meshes[np.isfinite(meshes[:, 0, 0]), :, :2]
    if not len(known):
        return np.full(3, np.nan, np.float32)
    low, high = known.min(1), known.max(1)
    boxes = np.concatenate([(low + high) / 2, (high - low)[:, :1]], 1)
    return np.asarray(np.median(boxes, 0), np.float32)


def _distance(face: Array, real: Array) -> float:
    """Between centres and widths, in widths of the real face; infinite where one has no face."""
    distance = float(np.abs(face - real).max() / max(float(real[2]), 1e-6))
    return distance if np.isfinite(distance) else float("inf")
