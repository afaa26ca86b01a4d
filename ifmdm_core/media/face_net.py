"""Our own face finder: a small detector over the whole picture and a mesh landmarker over each find.

Both are plain convolution nets, together about half a million parameters, trained by
`ifmdm_core.training.face_net` on the 478-point labels of a reference landmarker.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.media.face import Box, Face

POINTS = 478  # of the mesh
STRIDE = 8  # pixels of the detector's input per cell of its map
DETECT_SIDE = 160  # pixels: longer side of the smallest picture the detector looks at
LEVELS = (160, 320, 480, 640)  # longer sides for ever smaller faces
ENOUGH = 320  # where a face has been found, no finer level is looked at
SMALLEST = 18  # pixels of the picture: longer side of the box of a face worth finding
LARGEST = 80  # pixels: longer side of the box of a face that a finer level is trusted with
CANDIDATE = 0.2  # least value of the detector's map
ACCEPT = 0.985  # least score of a face, of both nets together
TRUST = 1.5  # weight of the detector's logit in that score, the landmarker's being 1
AGREE = 0.45  # least overlap of the detector's box and the landmarker's
MESH_SIDE = 112  # pixels: input of the landmarker
MESH_SCALE = 1.6  # side of the landmarker's square over the longer side of the face box
PASSES = 2  # the second one looks at a square placed by the first
MAX_CANDIDATES = 24

Image = npt.NDArray[np.uint8]


class Residual(nn.Module):
    """x + conv(relu(norm(x))), or a strided convolution without the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.same = stride == 1 and inputs == outputs
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C', H/s, W/s]
        y = self.norm(self.conv(x))
        return F.relu(x + y if self.same else y)


class Detector(nn.Module):
    """RGB [B, 3, H, W] in [0, 1], sides multiples of 32 -> map [B, 5, H/8, W/8].

    Channels: logit of a face centre, its offset (x, y) from the cell's middle in cells, log of its box's width and
    height in cells.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Residual(3, 12, 2), Residual(12, 24, 2), Residual(24, 24))  # /4
        self.eighth = nn.Sequential(Residual(24, 40, 2), Residual(40, 40))
        self.sixteenth = nn.Sequential(Residual(40, 48, 2), Residual(48, 48))
        self.thirtysecond = nn.Sequential(Residual(48, 48, 2), Residual(48, 48), Residual(48, 48))
        self.side16, self.side8 = nn.Conv2d(48, 48, 1), nn.Conv2d(40, 48, 1)
        self.smooth16, self.smooth8 = Residual(48, 48), Residual(48, 48)
        self.head = nn.Conv2d(48, 5, 1)
        with torch.no_grad():  # faces are rare among cells
            self.head.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        a = self.eighth(self.stem(2 * x - 1))  # [B, 40, H/8, W/8]
        b = self.sixteenth(a)  # [B, 48, H/16, W/16]
        c = self.thirtysecond(b)  # [B, 48, H/32, W/32]
        b = self.smooth16(self.side16(b) + F.interpolate(c, scale_factor=2.0))
        a = self.smooth8(self.side8(a) + F.interpolate(b, scale_factor=2.0))
        return self.head(a)


class Landmarker(nn.Module):
    """Grey [B, 1, 112, 112] in [0, 1] -> mesh [B, 478, 2] and box (x0, y0, x1, y1) [B, 4] in parts of the square,
    and the logit [B] that it is a face.

    The mesh leaves through 64 numbers, so it stays a plausible face.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 12, 5, 2, 2, bias=False), nn.BatchNorm2d(12), nn.ReLU(),  # 56
            Residual(12, 24, 2), Residual(24, 24),  # 28
            Residual(24, 48, 2), Residual(48, 48), Residual(48, 48),  # 14
            Residual(48, 64, 2), Residual(64, 64), Residual(64, 64),  # 7
            nn.Conv2d(64, 24, 1), nn.ReLU(),
        )  # fmt: skip
        self.code = nn.Linear(24 * 49, 64)
        self.mesh, self.box, self.face = nn.Linear(64, 2 * POINTS), nn.Linear(64, 4), nn.Linear(24 * 49, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.trunk(2 * x - 1).flatten(1)  # [B, 1176]
        code = self.code(features)  # [B, 64]
        return self.mesh(code).view(-1, POINTS, 2), self.box(code), self.face(features)[:, 0]


@dataclass(frozen=True)
class FaceNet:
    """Detector and landmarker together; call it with an RGB picture."""

    detector: Detector
    landmarker: Landmarker

    @classmethod
    def load(cls, path: str | Path) -> FaceNet:
        """From a safetensors file with the keys "detector.*" and "landmarker.*" (fp16 is fine)."""
        from safetensors.torch import load_file

        state = load_file(path)
        nets = cls(Detector(), Landmarker())
        for prefix, net in (("detector.", nets.detector), ("landmarker.", nets.landmarker)):
            part = {key.removeprefix(prefix): v.float() for key, v in state.items() if key.startswith(prefix)}
            net.load_state_dict(part)
            net.eval()
        return nets

    @torch.inference_mode()
    def __call__(self, image: Image) -> list[Face]:
        """Faces of image [H, W, 3] RGB uint8, any order, each once."""
        longest = max(image.shape[:2])
        faces: list[Face] = []
        for side in LEVELS:
            for box, heat in self.detect(image, side)[:MAX_CANDIDATES]:
                if max(box[2:]) < SMALLEST or (
                    side > DETECT_SIDE and max(box[2:]) * side / longest > LARGEST
                ):
                    continue  # too small to be of use, or a coarser level sees it better
                face = self.refine(image, box)
                face = replace(face, score=together(face.score, heat))
                agreed = face.score >= ACCEPT and overlap(face.box, box) >= AGREE
                if agreed and not any(same_place(face.box, other.box) for other in faces):
                    faces.append(face)
            # Finer levels see ever smaller faces, and ever more that are none.
            if side >= longest or (faces and side >= ENOUGH):
                break
        return faces

    @torch.inference_mode()
    def detect(self, image: Image, side: int, threshold: float = CANDIDATE) -> list[tuple[Box, float]]:
        """Candidates, best first, seen at `side` pixels for the longer side: box (x, y, w, h) in pixels and the
        value of the map.
        """
        height, width = image.shape[:2]
        scale = side / max(height, width)
        small = cv2.resize(
            image,
            (max(1, round(width * scale)), max(1, round(height * scale))),
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        )
        h, w = small.shape[:2]
        padded = np.full((-(-h // 32) * 32, -(-w // 32) * 32, 3), 127, np.uint8)
        padded[:h, :w] = small
        grid = self.detector(to_tensor(padded)[None])[0]  # [5, rows, columns]
        heat = grid[0].sigmoid()
        peak = F.max_pool2d(heat[None], 3, 1, 1)[0] == heat
        rows, columns = torch.where(peak & (heat > threshold))
        values = grid[1:, rows, columns].double().numpy()  # [4, n]
        cx, cy = (columns.numpy() + 0.5 + values[0]) * STRIDE, (rows.numpy() + 0.5 + values[1]) * STRIDE
        bw, bh = np.exp(np.clip(values[2:], -2, 5)) * STRIDE
        scores = heat[rows, columns].numpy()
        boxes = np.stack([cx - bw / 2, cy - bh / 2, bw, bh], 1) * (max(height, width) / side)
        kept: list[tuple[Box, float]] = []
        for n in np.argsort(-scores).tolist():
            x, y, w, h = boxes[n].tolist()
            if not any(overlap((x, y, w, h), other) > 0.4 for other, _ in kept):
                kept.append(((x, y, w, h), float(scores[n])))
        return kept

    @torch.inference_mode()
    def refine(self, image: Image, box: Box) -> Face:
        """The mesh, its box and the face score, looking closer at a box (x, y, w, h) in pixels."""
        score = 0.0
        for _ in range(PASSES):
            side = MESH_SCALE * max(box[2], box[3])
            x0, y0 = box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2
            patch = cut(image, x0, y0, side, MESH_SIDE)
            grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
            mesh, corners, logit = self.landmarker(torch.from_numpy(grey)[None, None].float() / 255)
            points = mesh[0].numpy() * side + (x0, y0)  # [478, 2]
            left, top, right, bottom = (corners[0].double().numpy() * side + (x0, y0, x0, y0)).tolist()
            box = (left, top, max(1.0, right - left), max(1.0, bottom - top))
            score = float(logit[0].sigmoid())
        return Face(box, points.astype(np.float32), score)


def cut(image: Image, x0: float, y0: float, side: float, size: int) -> Image:
    """A square at any fraction of a pixel as [size, size, 3]; outside the picture its edge repeats."""
    shrink = side / size
    if shrink > 2:  # a plain warp would alias
        left, top = max(0, int(x0)), max(0, int(y0))
        right, bottom = min(image.shape[1], int(x0 + side) + 2), min(image.shape[0], int(y0 + side) + 2)
        if right - left > 1 and bottom - top > 1:
            part = image[top:bottom, left:right]
            w, h = max(1, round(part.shape[1] / shrink)), max(1, round(part.shape[0] / shrink))
            image = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
            fx, fy = w / part.shape[1], h / part.shape[0]
            matrix = np.array([[fx * shrink, 0, (x0 - left) * fx], [0, fy * shrink, (y0 - top) * fy]])
            return _warp(image, matrix, size)
    return _warp(image, np.array([[shrink, 0, x0], [0, shrink, y0]]), size)


def _warp(image: Image, matrix: npt.NDArray[np.float64], size: int) -> Image:
    matrix = matrix.copy()
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5  # pixel i has its middle at i + 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, w) * max(0.0, h)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared + 1e-9)


def together(score: float, heat: float) -> float:
    """One probability from the landmarker's face score and the detector's map value: each alone believes in hands."""
    logit = [math.log(max(p, 1e-6) / max(1 - p, 1e-6)) for p in (score, heat)]
    return 1 / (1 + math.exp(-logit[0] - TRUST * logit[1]))


def same_place(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes overlap by more than half of the smaller one: one face seen twice, or a part of it."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0.0, w) * max(0.0, h) > 0.5 * min(a[2] * a[3], b[2] * b[3])


def to_tensor(image: Image) -> Tensor:
    """uint8 [H, W, 3] -> float [3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255


@functools.lru_cache(maxsize=1)
def bundled() -> FaceNet | None:
    """The weights in the package, loaded once; None where the package comes without them."""
    path = files("ifmdm_core") / "assets" / "face_net.safetensors"
    return FaceNet.load(Path(str(path))) if path.is_file() else None
