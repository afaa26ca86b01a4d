"""Others' judges, where the operator gives their weights: FID's Inception, ArcFace, SyncNet, as ONNX files.

They run in OpenCV's dnn module: no code comes with a file. What each must take and give is said at its class. The
code paths are tested with random weights; the figures have not been validated against published ones.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.metrics.mfcc import mfcc
from ifmdm_core.provenance import sha256_of_file

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]

ARCFACE_POINTS = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""Eyes, nose tip, mouth corners in the 112 x 112 picture that ArcFace was trained on."""
EYES = ((33, 133), (362, 263))
NOSE, MOUTH_CORNERS = 1, (61, 291)
SYNC_FRAMES = 5
SYNC_REACH = 15
"""Offsets searched by SyncNet: -15 .. +15 frames."""
SYNC_MARGIN = 0.4
"""Room around the face in SyncNet's crop, as a part of the face box."""


class OnnxNet:
    """A network of an ONNX file with one input and one output.

    Raises:
        NotFound: no such file. BadInput: OpenCV cannot read it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise NotFound(f"{path}: no such weights", fix="correct --weights NAME=FILE")
        self.digest = sha256_of_file(self.path)
        try:
            self._net = cv2.dnn.readNetFromONNX(str(self.path))
        except cv2.error as error:
            raise BadInput(
                f"{path} cannot be read as ONNX: {error.err}", fix="export it with opset 11 to 17"
            ) from None

    def __call__(self, batch: Array) -> Array:
        """The output [n, d], flattened, for a batch [n, ...]; BadInput where the network does not take it."""
        try:
            self._net.setInput(np.ascontiguousarray(batch, np.float32))
            return np.asarray(self._net.forward(), np.float32).reshape(len(batch), -1)
        except cv2.error as error:
            raise BadInput(
                f"{self.path} does not take {list(batch.shape)}: {error.err}", fix="see docs/measuring.md"
            ) from None


class InceptionJudge:
    """FID's features: takes RGB [n, 3, 299, 299] in [-1, 1], gives pool3 [n, 2048]."""

    def __init__(self, path: str | Path) -> None:
        self.net = OnnxNet(path)

    def features(self, frames: Frames, every: int = 5) -> Array:
        """Features of every so-manieth frame, [ceil(T / every), d]."""
        return np.concatenate(
            [self.net(_planes(_resized(frame, 299)) / 127.5 - 1) for frame in frames[::every]]
        )


class IdentityJudge:
    """ArcFace: takes aligned RGB [n, 3, 112, 112] in [-1, 1], gives embeddings [n, d]."""

    def __init__(self, path: str | Path) -> None:
        self.net = OnnxNet(path)

    def embed(self, frames: Frames, meshes: Array, every: int = 5) -> Array:
        """Unit vectors [k, d] of every so-manieth frame that has a face; meshes [T, 478, 3] in pixels."""
        chosen = [k for k in range(0, len(frames), every) if np.isfinite(meshes[k, 0, 0])]
        rows = [self.net(_planes(_aligned(frames[k], meshes[k])) / 127.5 - 1) for k in chosen]
        if not rows:
            return np.zeros((0, 1), np.float32)
        embeddings = np.concatenate(rows)
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)


class SyncNetJudge:
    """SyncNet (Chung and Zisserman 2016), two files.

    Lips: BGR [n, 3, 5, 224, 224] in 0..255; sound: 13 MFCCs at 100 Hz [n, 1, 13, 20]; both give [n, d].
    """

    def __init__(self, lips: str | Path, sound: str | Path) -> None:
        self.lips, self.sound = OnnxNet(lips), OnnxNet(sound)

    def score(self, frames: Frames, meshes: Array, samples: Array) -> tuple[float, float] | None:
        """(LSE-D, LSE-C) of frames [T, H, W, 3] with 16 kHz sound; None for clips that are too short."""
        count = min(len(frames), len(samples) // 640) - SYNC_FRAMES
        if count <= 2 * SYNC_REACH:
            return None
        pictures = _sync_crops(frames, meshes)  # [T, 3, 224, 224]
        coefficients = mfcc(samples)  # [100 Hz frames, 13]
        volume = pictures.transpose(1, 0, 2, 3)  # [3, T, 224, 224]
        seen = [self.lips(volume[None, :, k : k + SYNC_FRAMES]) for k in range(count)]
        sounds = [coefficients[4 * k : 4 * k + 4 * SYNC_FRAMES].T[None, None] for k in range(count)]
        whole = [k for k, window in enumerate(sounds) if window.shape[-1] == 4 * SYNC_FRAMES]
        heard = [self.sound(sounds[k]) for k in whole]
        return lse(np.concatenate(seen)[: len(whole)], np.concatenate(heard))


def lse(seen: Array, heard: Array, reach: int = SYNC_REACH) -> tuple[float, float]:
    """(LSE-D, LSE-C) of embeddings [n, d]: least mean distance over offsets, and the median's lead over it."""
    padded = np.pad(heard, ((reach, reach), (0, 0)))
    distances = np.stack([
        np.linalg.norm(seen - padded[shift : shift + len(seen)] + 1e-6, axis=1) for shift in range(2 * reach + 1)
    ]).mean(1)  # fmt: skip  # [2 reach + 1]
    return float(distances.min()), float(np.median(distances) - distances.min())


def _planes(picture: Frames) -> Array:
    """[H, W, 3] to float32 [1, 3, H, W]."""
    return picture.transpose(2, 0, 1)[None].astype(np.float32)


def _resized(picture: Frames, size: int) -> Frames:
    method = cv2.INTER_AREA if size < picture.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=method), np.uint8)


def _aligned(picture: Frames, mesh: Array) -> Frames:
    """The face turned upright as ArcFace knows it, [112, 112, 3]."""
    eyes = [mesh[list(corners), :2].mean(0) for corners in EYES]
    points = np.stack([*eyes, mesh[NOSE, :2], *(mesh[k, :2] for k in MOUTH_CORNERS)])
    place, _ = cv2.estimateAffinePartial2D(points.astype(np.float64), ARCFACE_POINTS, method=cv2.LMEDS)
    if place is None:
        place = np.array([[112 / picture.shape[1], 0, 0], [0, 112 / picture.shape[0], 0]])
    return np.asarray(cv2.warpAffine(picture, place, (112, 112), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _sync_crops(frames: Frames, meshes: Array) -> Array:
    """Face crops as SyncNet's own pipeline cuts them, BGR float32 [T, 3, 224, 224]."""
    known = np.flatnonzero(np.isfinite(meshes[:, 0, 0]))
    nearest = known[np.abs(np.arange(len(frames))[:, None] - known).argmin(1)]
    points = meshes[nearest, :, :2]
    low, high = points.min(1), points.max(1)  # [T, 2]
    half = np.median((high - low).max(1)) / 2
    centres = (low + high) / 2
    kernel = np.ones(13) / 13
    smooth = np.stack([np.convolve(np.pad(c, 6, mode="edge"), kernel, "valid") for c in centres.T], 1)
    crops = []
    for frame, (x, y) in zip(frames, smooth, strict=True):
        side = half * (1 + SYNC_MARGIN)
        scale = 224 / (2 * side)
        place = np.array([[scale, 0, -(x - side) * scale], [0, scale, -(y - half) * scale]])
        cut = cv2.warpAffine(frame, place, (224, 224), borderMode=cv2.BORDER_CONSTANT, borderValue=(110,) * 3)
        crops.append(cut[:, :, ::-1].transpose(2, 0, 1).astype(np.float32))
    return np.stack(crops)
