"""The mouth in head coordinates: landmark meshes with rotation, size and place of the head taken out.

Every frame's mesh is fitted (rotation, scale, translation) to a fixed template on points that do not move with
speech: eye corners, the nose, glabella, forehead and temples. What is left at the lips and chin is their motion.
Unit of length: the distance between the outer eye corners.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput

Points = NDArray[np.float32]
Pixels = NDArray[np.uint8]

_TEMPLATE = (  # mesh index, x right, y down, z away from the camera; median of training faces, made symmetric
    (33, -0.500, +0.000, +0.000),
    (133, -0.190, +0.037, -0.050),
    (362, +0.190, +0.037, -0.050),
    (263, +0.500, +0.000, +0.000),
    (168, +0.000, +0.042, -0.249),
    (6, +0.000, +0.142, -0.268),
    (197, +0.000, +0.235, -0.298),
    (195, +0.000, +0.321, -0.336),
    (5, +0.000, +0.411, -0.374),
    (4, +0.000, +0.504, -0.372),
    (48, -0.200, +0.496, -0.162),
    (278, +0.200, +0.496, -0.162),
    (9, +0.000, -0.141, -0.330),
    (10, +0.000, -0.509, -0.372),
    (127, -0.799, -0.134, +0.552),
    (356, +0.799, -0.134, +0.552),
)
STABLE = tuple(int(row[0]) for row in _TEMPLATE)

OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS = OUTER_LIPS + INNER_LIPS
"""The 40 lip points of the 478-point mesh, in this order everywhere."""
CHIN = (152, 148, 377, 176, 400, 199, 200)
"""Points that move with the jaw."""


def align_heads(landmarks: Points, keep: Sequence[int] = LIPS + CHIN) -> Points:
    """Take head pose and size out of meshes.

    Args:
        landmarks: float [n, 478, 3], x right, y down, any unit (pixels or crop), z in the unit of x.
        keep: mesh points wanted.

    Returns:
        float32 [n, len(keep), 3] in eye distances: origin midway between the outer eye corners, x right, y down.

    Raises:
        BadInput: the array is not [n, 478, 3] or not finite.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (478, 3):
        raise BadInput(f"landmarks have shape {landmarks.shape}", fix="give an array [frames, 478, 3]")
    if not np.isfinite(landmarks).all():
        raise BadInput("landmarks hold NaN or infinity", fix="drop frames without a face first")
    template = np.array([row[1:] for row in _TEMPLATE])  # [k, 3]
    stable = landmarks[:, STABLE].astype(np.float64)  # [n, k, 3]
    points = landmarks[:, keep].astype(np.float64)  # [n, kept, 3]
    centre = stable.mean(1, keepdims=True)
    away = stable - centre
    target = template - template.mean(0)
    u, s, vt = np.linalg.svd(np.einsum("nki,kj->nij", away, target))
    signs = np.ones((len(points), 3))
    signs[:, 2] = np.sign(np.linalg.det(u @ vt))  # a rotation, never a mirror image
    rotation = np.einsum("nij,nj,njk->nik", u, signs, vt)  # [n, 3, 3]
    scale = (s * signs).sum(1) / np.maximum((away**2).sum((1, 2)), 1e-12)  # [n]
    aligned = scale[:, None, None] * np.einsum("nki,nij->nkj", points - centre, rotation) + template.mean(0)
    return aligned.astype(np.float32)


def jaw_opening(landmarks: Points) -> NDArray[np.float32]:
    """Gap between the inner lips, [n] float32 in eye distances, from meshes [n, 478, 3]. 0 is closed."""
    mouth = align_heads(landmarks, (82, 13, 312, 87, 14, 317))
    upper, lower = mouth[:, :3], mouth[:, 3:]  # [n, 3, 3]
    return np.linalg.norm(upper - lower, axis=2).mean(1).astype(np.float32)


def lip_points(landmarks: Points) -> Points:
    """The 40 lip points seen from the front, [n, 40, 2] float32 in eye distances, from meshes [n, 478, 3]."""
    return np.ascontiguousarray(align_heads(landmarks, LIPS)[:, :, :2])


def lifted(points: Points) -> Points:
    """Meshes [n, 478, 3] of flat ones [n, 478, 2]: depth as of the template's frontal face, in the unit of x.

    A stand-in for landmarkers that see no depth; turned heads are then aligned less well.
    """
    eyes = np.linalg.norm(points[:, 263] - points[:, 33], axis=1)  # [n]
    depth = np.full(points.shape[:2], -0.25, np.float32)  # of lips and chin, in eye distances
    depth[:, STABLE] = [row[3] for row in _TEMPLATE]
    return np.concatenate([points, (depth * eyes[:, None])[..., None]], 2).astype(np.float32)


def mouth_points(landmarks: Points) -> Points:
    """Lips and chin, [n, 47, 3] float32 in eye distances, from meshes [n, 478, 3]."""
    return align_heads(landmarks)


def mouth_pictures(frames: Iterable[Pixels], landmarks: Points, size: tuple[int, int] = (64, 96)) -> Pixels:
    """Stabilised grey mouths: turned upright, scaled by the eyes and nose, nothing of the background.

    Args:
        frames: n pictures uint8 [H, W, 3] RGB.
        landmarks: [n, 478, 3] in pixels of those pictures.
        size: height and width of the result; the mouth fills 0.6 x 0.9 eye distances.

    Returns:
        uint8 [n, height, width].
    """
    height, width = size
    template = np.array([row[1:3] for row in _TEMPLATE])  # [k, 2]
    target = (template - np.array([-0.45, 0.55])) * (width / 0.9)
    places = _upright_fits(landmarks[:, STABLE, :2].astype(np.float64), target)  # [n, 2, 3]
    kernel = np.ones(5) / 5
    padded = np.pad(places, ((2, 2), (0, 0), (0, 0)), mode="edge")
    smooth = np.apply_along_axis(lambda column: np.convolve(column, kernel, "valid"), 0, padded)
    mouths = [
        cv2.warpAffine(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), place, (width, height), flags=cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REPLICATE)
        for frame, place in zip(frames, smooth, strict=True)
    ]  # fmt: skip
    return np.stack(mouths) if mouths else np.zeros((0, height, width), np.uint8)


def steadied(
    grey: Sequence[Pixels], points: Points, size: tuple[int, int], top: float = 0.55
) -> list[Pixels]:
    """Grey pictures [h, w] of the face below `top` (eye distances under the eyes), each placed by its own mesh.

    Args:
        grey: n pictures [H, W]. points: meshes [n, 478, 2] in pixels of those.
        size: height and width of the results; the width is 0.9 eye distances.
    """
    template = np.array([row[1:3] for row in _TEMPLATE])  # [k, 2]
    target = (template - np.array([-0.45, top])) * (size[1] / 0.9)
    places = _upright_fits(points[:, STABLE].astype(np.float64), target)  # [n, 2, 3]
    return [
        np.asarray(
            cv2.warpAffine(
                picture, place, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        )
        for picture, place in zip(grey, places, strict=True)
    ]


def _upright_fits(points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares rotation, scale and shift [n, 2, 3] that takes points [n, k, 2] to target [k, 2]."""
    centre, goal = points.mean(1), target.mean(0)
    a = (points - centre[:, None]) @ np.array([1, 1j])  # complex numbers: one factor turns and scales
    b = (target - goal) @ np.array([1, 1j])
    factor = (a.conj() * b).sum(1) / np.maximum((np.abs(a) ** 2).sum(1), 1e-12)
    turn = np.stack([np.stack([factor.real, -factor.imag], -1), np.stack([factor.imag, factor.real], -1)], 1)
    shift = goal - np.einsum("nij,nj->ni", turn, centre)
    return np.concatenate([turn, shift[:, :, None]], 2)
