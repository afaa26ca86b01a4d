"""How mouths move, from pictures alone: optical flow of the lower face, steadied by eyes and nose.

Our own face net places a face well but hardly sees lips part (its gap varies by 0.002 eye distances in speech), so the
lips' motion is taken from the pictures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.metrics.mouth import steadied

Array = NDArray[np.float32]

PATCH = (88, 96)
"""Height and width of the steadied lower face, pixels; 106 of them are an eye distance."""
TOP = 0.45
"""Its upper edge, in eye distances below the line of the eyes: under the nose."""
GRID = (11, 12)
"""Rows and columns of the coarse flow."""
UPPER, LOWER, MIDDLE = slice(0, 3), slice(6, 11), slice(4, 8)
"""Rows of the upper lip, of lower lip and chin, and the columns between the corners."""


def mouth_flow(frames: NDArray[np.uint8], points: Array) -> Array:
    """Where the lower face has moved since the middle frame, [n, 11, 12, 2] in eye distances, x right, y down.

    frames [n, S, S, 3] of one clip, points [n, 478, 2] of their meshes in pixels. What the whole patch does together,
    as when the face turns or was placed a little off, is taken out.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    patches = steadied(grey, points, PATCH, TOP)
    still = patches[len(patches) // 2]
    flows = []
    for patch in patches:
        flow = cv2.calcOpticalFlowFarneback(still, patch, None, 0.5, 3, 21, 3, 7, 1.5, 0)  # type: ignore[call-overload]
        flows.append(cv2.resize(flow, GRID[::-1], interpolation=cv2.INTER_AREA) / (PATCH[1] / 0.9))
    field = np.stack(flows).astype(np.float32)  # [n, 11, 12, 2]
    return field - field.mean((1, 2), keepdims=True)


def measure_flows(flows: Sequence[Array], dims: int) -> list[Array]:
    """Lip measurements [n, dims] of clips' `mouth_flow`: opening (chin and lower lip away from the upper), then
    components of the flow. Each has deviation 1 within clips.
    """
    gaps = [f[:, LOWER, MIDDLE, 1].mean((1, 2)) - f[:, UPPER, MIDDLE, 1].mean((1, 2)) for f in flows]
    flat = [f.reshape(len(f), -1) for f in flows]
    deviations = np.concatenate([part - part.mean(0) for part in flat])
    basis = np.linalg.eigh(deviations.T @ deviations)[1][:, ::-1][:, : dims - 1]  # [264, dims - 1]
    lips = [np.concatenate([gap[:, None], part @ basis], 1) for gap, part in zip(gaps, flat, strict=True)]
    scale = np.concatenate([part - part.mean(0) for part in lips]).std(0) + 1e-8
    return [(part / scale).astype(np.float32) for part in lips]
