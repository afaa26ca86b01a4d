"""Meshes of faces that were cut out already: our own landmarker alone, many pictures at once.

In a clip of a dataset the face's place is known within a few pixels (`media.face.clip_square` put it there), so the
detector has nothing to find. Two frames of a pair take about 8 ms on one CPU core.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.errors import NotFound
from ifmdm_core.media.face import SCALE
from ifmdm_core.media.face_net import MESH_SCALE, MESH_SIDE, FaceNet, Landmarker, cut

PASSES = 3
"""Looks, each at a square placed by the one before; the first is placed by custom. The third moves points by 0.3 %."""

SURE = 0.9
"""Least score of a face; pictures without one score below 0.2, whole faces above 0.98."""


@dataclass(frozen=True)
class CropMeshes:
    """Finds the mesh of the face in the middle of each picture, on the CPU."""

    landmarker: Landmarker

    @classmethod
    def load(cls) -> CropMeshes:
        """With weights of its own, which no other thread uses. Raises NotFound when the package has none."""
        path = Path(str(files("ifmdm_core") / "assets" / "face_net.safetensors"))
        if not path.is_file():
            raise NotFound(
                "the package has no face_net.safetensors, which stage 1 places mouth and eyes by",
                fix="install a release, or set losses.mouth, losses.eyes and losses.mesh to 0",
            )
        return cls(FaceNet.load(path).landmarker)

    @torch.inference_mode()
    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Points [n, 478, 2] in crop coordinates and whether there is a face, [n], of pictures [n, S, S, 3] RGB."""
        count, size = len(pictures), pictures.shape[1]
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
        middle = np.full((count, 2), size / 2)  # pixels
        longer = np.full(count, size / SCALE)  # pixels: longer side of the face box
        for _ in range(PASSES):
            side = MESH_SCALE * longer
            corner = middle - side[:, None] / 2  # [n, 2]
            patches = [cut(g, x, y, s, MESH_SIDE) for g, (x, y), s in zip(grey, corner, side, strict=True)]
            seen = torch.from_numpy(np.stack(patches))[:, None].float() / 255  # [n, 1, 112, 112]
            mesh, box, logit = (t.numpy() for t in self.landmarker(seen))
            points = mesh * side[:, None, None] + corner[:, None]  # [n, 478, 2]
            low, high = box[:, :2] * side[:, None] + corner, box[:, 2:] * side[:, None] + corner
            middle, longer = (low + high) / 2, np.maximum(1.0, (high - low).max(1))
        score = 1 / (1 + np.exp(-logit.astype(np.float64)))
        return (points / size).astype(np.float32), score > SURE
