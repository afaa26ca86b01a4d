"""Which face finder to use: the operator's mediapipe model, our own net, or OpenCV's Haar cascade."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ifmdm_core.errors import NotFound, Unsupported
from ifmdm_core.media.face import Face, Image

VARIABLE = "IFMDM_FACE_LANDMARKER"
_NO_POINTS = np.zeros((0, 2), np.float32)

Finder = Callable[[Image], list[Face]]


def finder(landmarker: str | Path | None = None) -> Finder:
    """The best finder at hand; `landmarker`, else the environment, may name a mediapipe .task file.

    Raises NotFound for a model file that is not there, Unsupported where nothing can find faces.
    """
    from ifmdm_core.media import face_net

    model = landmarker or os.environ.get(VARIABLE)
    if model:
        return _mediapipe(str(model))
    net = face_net.bundled()
    if net is not None:
        return net
    return _haar()


def uses_own_net() -> bool:
    """Whether `finder` takes our own net, which can also look again at a known place."""
    from ifmdm_core.media import face_net

    return not os.environ.get(VARIABLE) and face_net.bundled() is not None


@functools.lru_cache(maxsize=1)
def _mediapipe(model: str) -> Finder:
    if not Path(model).is_file():
        raise NotFound(f"{model}: no such face landmarker model", fix=f"correct or unset {VARIABLE}")
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise Unsupported(f"{model}: mediapipe is not installed", fix="pip install mediapipe") from error
    options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_path=model), num_faces=10)
    landmarks = vision.FaceLandmarker.create_from_options(options)

    def find(image: Image) -> list[Face]:
        height, width = image.shape[:2]
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        faces = []
        for mesh in landmarks.detect(picture).face_landmarks:
            points = np.array([(p.x * width, p.y * height) for p in mesh], np.float32)  # [478, 2]
            faces.append(Face(_bounds(points), points, 1.0))
        return faces

    return find


@functools.lru_cache(maxsize=1)
def _haar() -> Finder:
    data: Any = getattr(cv2, "data", None)
    cascade_file = Path(data.haarcascades, "haarcascade_frontalface_default.xml") if data else None
    if cascade_file is None or not cascade_file.is_file() or not hasattr(cv2, "CascadeClassifier"):
        raise Unsupported(
            "no face finder: the face net's weights are missing and this OpenCV has no Haar cascade",
            fix="give the face by hand: --face x,y,w,h",
        )
    cascade = cv2.CascadeClassifier(str(cascade_file))

    def find(image: Image) -> list[Face]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes = cascade.detectMultiScale(grey, 1.1, 5, minSize=(48, 48))
        # Haar's square begins at the forehead's middle; the mesh reaches a little lower and is narrower.
        tuned = [
            (x + 0.1 * s, y + 0.1 * s, 0.8 * s, 0.95 * s)
            for x, y, s, _ in np.asarray(boxes, float).reshape(-1, 4)
        ]
        return [Face(box, np.zeros((0, 2), np.float32), 0.5) for box in tuned]

    return find


def _bounds(points: np.ndarray) -> tuple[float, float, float, float]:
    low, high = points.min(0), points.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
