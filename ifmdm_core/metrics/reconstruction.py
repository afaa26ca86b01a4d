"""Pictures against pictures: gain over copying the source, sharpness, and the speed of the background (table 6)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.mouth import jaw_opening

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]

MOUTH_RING = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
EYE_RINGS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
             263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)  # fmt: skip


def region_box(landmarks: Points, ring: tuple[int, ...], grow: float = 0.25) -> tuple[slice, slice]:
    """Rows and columns of the box around mesh points [478, 3] (pixels), each side grown by a share of it."""
    points = landmarks[list(ring), :2]
    low, high = points.min(0), points.max(0)
    margin = (high - low) * grow
    x0, y0 = np.maximum(np.floor(low - margin), 0).astype(int)
    x1, y1 = np.ceil(high + margin).astype(int)
    return slice(int(y0), max(int(y1), int(y0) + 2)), slice(int(x0), max(int(x1), int(x0) + 2))


def psnr(a: Frames, b: Frames) -> float:
    """Peak signal to noise of 8-bit pictures, dB; at most 60."""
    if a.shape != b.shape or not a.size:
        raise BadInput(f"pictures of shapes {a.shape} and {b.shape}", fix="compare equal, non-empty sizes")
    error = float(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean())
    return min(60.0, 10 * float(np.log10(255.0**2 / max(error, 1e-9))))


def gain_over_copying(source: Frames, target: Frames, rendered: Frames, box: tuple[slice, slice]) -> float:
    """dB by which the rendered picture is nearer to the target than the source is, inside `box`. 0 = copied."""
    return psnr(rendered[box], target[box]) - psnr(source[box], target[box])


def different_lips(landmarks: Points, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The quarter of index pairs [n, 2] whose lip gaps differ most, from meshes [N, 478, 3]."""
    gaps = jaw_opening(landmarks)
    differences = np.abs(gaps[pairs[:, 0]] - gaps[pairs[:, 1]])
    return pairs[differences >= np.percentile(differences, 75)]


def sharpness(picture: Frames) -> float:
    """Mean gradient energy of the grey picture: what blur takes away first."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    return float((across**2 + down**2).mean())


def sharpness_ratio(rendered: Frames, target: Frames, box: tuple[slice, slice]) -> float:
    """Square root of the ratio of gradient energies inside `box`: 1 as sharp as the real picture."""
    return float(np.sqrt(sharpness(rendered[box]) / max(sharpness(target[box]), 1e-6)))


def background_speed(frames: Frames, landmarks: Points) -> float:
    """Mean absolute change per frame, in grey levels, of what lies clearly outside the face and above the shoulders.

    Args:
        frames: [T, H, W, 3], T >= 2. landmarks: [T, 478, 3] in pixels.
    """
    height, width = frames.shape[1:3]
    low = landmarks[..., :2].min((0, 1))
    high = landmarks[..., :2].max((0, 1))
    side = (high - low) * 0.25
    outside = np.ones((height, width), bool)
    x0, y0 = np.maximum(low - side * (1, 2), 0).astype(int)
    outside[y0:, x0 : int(high[0] + side[0]) + 1] = False
    outside[int(high[1]) :, :] = False
    if outside.sum() < 50:
        return float("nan")
    grey = frames.astype(np.float32).mean(-1)[:, outside]  # [T, pixels]
    return float(np.abs(np.diff(grey, axis=0)).mean())


def ssim(a: Frames, b: Frames) -> float:
    """Structural similarity of two pictures [H, W, 3]: on grey, Gaussian window of sigma 1.5 (Wang et al. 2004)."""
    if a.shape != b.shape or not a.size:
        raise BadInput(f"pictures of shapes {a.shape} and {b.shape}", fix="compare equal, non-empty sizes")
    x, y = (cv2.cvtColor(np.ascontiguousarray(p), cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (a, b))

    def blurred(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(picture, (11, 11), 1.5), np.float32)

    mean_x, mean_y = blurred(x), blurred(y)
    power_x, power_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    like = (2 * mean_x * mean_y + c1) * (2 * shared + c2)
    return float((like / ((mean_x**2 + mean_y**2 + c1) * (power_x + power_y + c2))).mean())
