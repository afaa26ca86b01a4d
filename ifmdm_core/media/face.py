"""Where the face is, the square cut around it, and how a square goes back into the picture.

Coordinates are continuous pixels: pixel i covers [i, i + 1), so a picture w wide spans 0..w and normalised
landmarks times w are already in this system. A face's box is the bounding box of its 478-point mesh; the model's
crop is a square of 1.75 times its longer side around its centre (training and inference alike).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput

SCALE = 1.75  # side of the model's square over the longer side of the face box
FEATHER = 0.12  # width of the blended edge, as a part of the square's side

Box = tuple[float, float, float, float]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Square:
    """A square of the picture: centre and side in pixels; it may reach beyond the picture."""

    cx: float
    cy: float
    side: float

    @property
    def x0(self) -> float:
        return self.cx - self.side / 2

    @property
    def y0(self) -> float:
        return self.cy - self.side / 2

    def snapped(self) -> Square:
        """The nearest square made of whole pixels, so that cutting and pasting back are exact."""
        side = max(2, round(self.side))
        x0, y0 = math.floor(self.cx - side / 2 + 0.5), math.floor(self.cy - side / 2 + 0.5)
        return Square(x0 + side / 2, y0 + side / 2, float(side))

    def to_unit(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Pixels [..., 2] of the picture -> coordinates in the square, 0..1 from its left/top edge."""
        return ((np.asarray(points, np.float64) - (self.x0, self.y0)) / self.side).astype(np.float32)

    def to_pixels(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The inverse of `to_unit`."""
        return (np.asarray(points, np.float64) * self.side + (self.x0, self.y0)).astype(np.float32)


@dataclass(frozen=True)
class Face:
    """A found face: box (x, y, w, h) of its mesh and landmarks [K, 2] in pixels, score in [0, 1]."""

    box: Box
    landmarks: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Choice:
    """The square to animate, the face it belongs to (None when the user gave no face) and what to tell."""

    square: Square
    face: Face | None
    note: str = ""


def crop_square(box: Sequence[float]) -> Square:
    """The model's square for one face box (x, y, w, h), in whole pixels."""
    x, y, w, h = (float(v) for v in box)
    return Square(x + w / 2, y + h / 2, SCALE * max(w, h)).snapped()


def clip_square(boxes: npt.ArrayLike) -> Square:
    """One square for a whole clip from its face boxes [n, 4]: it holds still while the head moves.

    The centre is the middle of the 5th to 95th percentile of the box centres; the side is 1.75 times the median
    longer side plus half the larger of the two ranges.
    """
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    centres = rows[:, :2] + rows[:, 2:] / 2  # [n, 2]
    low, high = np.percentile(centres, [5, 95], axis=0)  # [2], [2]
    side = SCALE * float(np.median(rows[:, 2:].max(1))) + 0.5 * float((high - low).max())
    cx, cy = (low + high) / 2
    return Square(float(cx), float(cy), side).snapped()


def crop(image: Image, square: Square, size: int) -> Image:
    """Cut a square out of image [H, W, 3] and resize it to [size, size, 3]; what lies outside repeats the edge."""
    square = square.snapped()
    x0, y0, side = int(square.x0), int(square.y0), int(square.side)
    height, width = image.shape[:2]
    if x0 >= 0 and y0 >= 0 and x0 + side <= width and y0 + side <= height:
        cut = image[y0 : y0 + side, x0 : x0 + side]
    else:
        # At least one row and column of the picture, also where the square lies wholly beside it.
        left, right = min(max(x0, 0), width - 1), max(min(x0 + side, width), 1)
        top, bottom = min(max(y0, 0), height - 1), max(min(y0 + side, height), 1)
        before = max(0, top - y0), max(0, left - x0)
        after = max(0, y0 + side - bottom), max(0, x0 + side - right)
        part = image[top:bottom, left:right]
        cut = cv2.copyMakeBorder(part, before[0], after[0], before[1], after[1], cv2.BORDER_REPLICATE)
        # ... of which only the border may belong to the square.
        cut = cut[max(0, y0 - top) :, max(0, x0 - left) :][:side, :side]
    return np.ascontiguousarray(_resize(cut, size))


def paste_back(image: Image, square: Square, frame: Image) -> Image:
    """A copy of image [H, W, 3] with frame [S, S, 3] blended into the square over a feathered edge.

    The edge fades only where the square ends inside the picture; the outermost pixels there are the picture's own.
    """
    square = square.snapped()
    x0, y0, side = int(square.x0), int(square.y0), int(square.side)
    height, width = image.shape[:2]
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + side, width), min(y0 + side, height)
    whole = image.copy()
    if left >= right or top >= bottom:
        return whole
    inside = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
    weight = _feather(x0, y0, side, height, width)[inside]  # [h, w]
    painted = np.ascontiguousarray(_resize(frame, side)[inside])
    under = np.ascontiguousarray(whole[top:bottom, left:right])
    whole[top:bottom, left:right] = cv2.blendLinear(painted, under, weight, 1 - weight)
    return whole


@functools.lru_cache(maxsize=4)
def _feather(x0: int, y0: int, side: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Weight of the pasted frame [side, side]: smooth from 0 at the edge to 1 within FEATHER of the side."""
    at = np.arange(side, dtype=np.float32)

    def ramp(start: int, length: int) -> npt.NDArray[np.float32]:
        before = at if start > 0 else np.full(side, side, np.float32)
        after = side - 1 - at if start + side < length else np.full(side, side, np.float32)
        part = np.clip(np.minimum(before, after) / max(1.0, FEATHER * side), 0, 1)
        return (part * part * (3 - 2 * part)).astype(np.float32)

    return np.ascontiguousarray(ramp(y0, height)[:, None] * ramp(x0, width)[None, :])


def find_faces(image: Image, landmarker: str | Path | None = None) -> list[Face]:
    """The faces of image [H, W, 3] RGB, largest first; an empty list where there is none.

    Our own small net finds them; mediapipe does where `landmarker` or the environment's IFMDM_FACE_LANDMARKER names
    a face landmarker .task file; OpenCV's Haar cascade (boxes only) stands in where the net's weights are missing.
    """
    from ifmdm_core.media import face_finders

    faces = face_finders.finder(landmarker)(image)
    return sorted(faces, key=lambda face: -face.box[2] * face.box[3])


def choose_face(
    faces: Sequence[Face],
    spec: str | int | Sequence[float] = "auto",
    *,
    size: tuple[int, int] | None = None,
    name: str = "the picture",
) -> Choice:
    """The face to animate among `faces` (largest first), as the square to cut.

    `spec`: "auto" is the largest; N the N-th largest, from 0; "none" cuts the middle square of a picture of `size`
    (width, height); (x, y, w, h) is a face box in pixels given by hand. Raises BadInput naming the picture.
    """
    if isinstance(spec, str) and spec == "none":
        if size is None:
            raise ValueError("choose_face(spec='none') needs the picture's size=(width, height)")
        return Choice(Square(size[0] / 2, size[1] / 2, min(size)).snapped(), None)
    if not isinstance(spec, (str, int)):
        return Choice(_given_square(tuple(float(v) for v in spec), size, name), None)
    if not faces:
        raise BadInput(
            f"{name}: no face found",
            fix="use a frontal portrait of at least 64 pixels, or say where the face is: --face x,y,w,h "
            "(pixels), or --face none to use the picture as it is",
        )
    if spec == "auto":
        face, note = faces[0], ""
        if len(faces) > 1:
            note = f"{len(faces)} faces found, using the largest; --face 1 takes the next one"
        return Choice(crop_square(face.box), face, note)
    if isinstance(spec, str) or not 0 <= spec < len(faces):
        found = f"0 to {len(faces) - 1}" if len(faces) > 1 else "0"
        raise BadInput(
            f"{name}: no face {spec!r}", fix=f"faces are numbered from the largest: --face {found}"
        )
    return Choice(crop_square(faces[spec].box), faces[spec])


def locate_face(
    image: Image, spec: str | int | Sequence[float] = "auto", *, name: str = "the picture"
) -> Choice:
    """`find_faces` (only where the choice needs it) and `choose_face` in one step."""
    needed = isinstance(spec, int) or spec == "auto"
    size = (image.shape[1], image.shape[0])
    return choose_face(find_faces(image) if needed else [], spec, size=size, name=name)


def _given_square(box: tuple[float, ...], size: tuple[int, int] | None, name: str) -> Square:
    if len(box) != 4 or not all(math.isfinite(v) for v in box) or min(box[2:]) <= 0:
        raise BadInput(
            f"{name}: {box} is no face box", fix="give --face x,y,w,h in pixels, with w and h above 0"
        )
    x, y, w, h = box
    if size is not None and (x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0):
        raise BadInput(
            f"{name}: the face box {box} lies outside its {size[0]}x{size[1]} pixels",
            fix="give --face x,y,w,h in pixels from the upper left corner",
        )
    if size is not None and max(w, h) > 4 * max(size):
        raise BadInput(
            f"{name}: the face box {box} is far larger than the picture", fix="give pixels of this picture"
        )
    return crop_square(box)


def _resize(image: Image, size: int) -> Image:
    if image.shape[0] == size and image.shape[1] == size:
        return image
    method = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), np.uint8)
