"""Labelled pictures for the face net: collected once from raw media, then varied without end.

Every sample is a function of its own random generator, so a batch depends on (seed, step, index) alone.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput
from ifmdm_core.media.face_net import DETECT_SIDE, MESH_SCALE, MESH_SIDE
from ifmdm_core.training.face_parameters import mirror_permutation
from ifmdm_core.training.labels import label_path, read_labels, timed_frames

FACE = 128  # pixels: longer side of the face box in a collected picture, at most
MARGIN = 3.4  # side of the collected square over the face's
PER_KIND = {"portraits": 1, "mixed": 12, "grid": 1, "news": 1, "clips": 12}  # frames taken of one source

MISTAKE_SCALE = 3.2

Image = npt.NDArray[np.uint8]
Rng = np.random.Generator


@dataclass
class FaceSamples:
    """Pictures around one labelled face each."""

    pictures: list[Image]
    """RGB [H, W, 3], of several sizes."""
    meshes: npt.NDArray[np.float32]
    """[n, 478, 2] pixels."""
    mirror: npt.NDArray[np.int64]
    """[478]: the point that takes each point's place in a mirrored face."""
    names: list[str] = field(default_factory=list)
    mistakes: list[Image] = field(default_factory=list)
    """Squares [S, S, 3] around what an earlier net took for a face; their middle fills one MISTAKE_SCALE-th."""
    free: int = 0
    """So many of `mistakes`, the first, show nothing of a face."""

    def __len__(self) -> int:
        return len(self.pictures)

    def save(self, path: Path) -> None:
        """One .npz of JPEG bytes, meshes and the mirror map."""
        coded = [
            cv2.imencode(".jpg", p[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel()
            for p in self.pictures
        ]
        offsets = np.cumsum([0, *(len(c) for c in coded)])
        np.savez(
            path,
            jpeg=np.concatenate(coded),
            offsets=offsets,
            meshes=self.meshes,
            mirror=self.mirror,
            names=self.names,
        )

    @classmethod
    def load(cls, path: Path) -> FaceSamples:
        with np.load(path, allow_pickle=False) as stored:
            jpeg, offsets = stored["jpeg"], stored["offsets"]
            pictures = [
                cv2.cvtColor(np.asarray(cv2.imdecode(jpeg[a:b], cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
                for a, b in itertools.pairwise(offsets)
            ]
            return cls(pictures, stored["meshes"], stored["mirror"], [str(name) for name in stored["names"]])


def collect(manifest: Path, labels: Path, split: str, news: int = 900, grid: int = 60) -> FaceSamples:
    """Gather frames of the manifest's `split` with their stored labels: all portraits, twelve frames of a mixed clip,
    one of each of `news` newscaster clips and `grid` studio sentences.
    """
    with manifest.open() as stream:
        files = [row["file"] for row in csv.DictReader(stream) if row["split"] == split]
    taken = {"news": 0, "grid": 0}
    room = {"news": news, "grid": grid}
    pictures, meshes, solid, names = [], [], [], []
    for file in sorted(files, key=lambda name: name[::-1]):  # mixes speakers: names begin with the source
        kind = file.split("/")[1]
        if kind not in PER_KIND or taken.get(kind, 0) >= room.get(kind, 1 << 30):
            continue
        found = read_labels(label_path(labels, file))
        if found is None or not found.valid.any():
            continue
        taken[kind] = taken.get(kind, 0) + 1
        rows = np.flatnonzero(found.valid)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, PER_KIND[kind] + 2).astype(int)[1:-1])]
        wanted = set(rows.tolist())
        for row, frame in enumerate(timed_frames(manifest.parent / file)):
            if row in wanted:
                picture, mesh = _around(frame, found.landmarks[row, :, :2])
                pictures.append(picture)
                meshes.append(mesh)
                solid.append(found.landmarks[row])
                names.append(f"{file}#{row}")
            if row >= rows[-1]:
                break
    if not pictures:
        raise BadInput(f"{labels}: no labels of the {split} split of {manifest}", fix="label the media first")
    return FaceSamples(pictures, np.stack(meshes), mirror_permutation(_mean_shape(np.stack(solid))), names)


def _around(frame: Image, mesh: npt.NDArray[np.float32]) -> tuple[Image, npt.NDArray[np.float32]]:
    low, high = mesh.min(0), mesh.max(0)
    side = float((high - low).max())
    x0, y0 = np.maximum(0, (low + high) / 2 - MARGIN / 2 * side).astype(int)
    x1, y1 = ((low + high) / 2 + MARGIN / 2 * side).astype(int)
    part = frame[y0 : max(y1, y0 + 8), x0 : max(x1, x0 + 8)]
    scale = min(1.0, FACE / side)
    if scale < 1:
        size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    else:
        small = part.copy()
    factor = np.array([small.shape[1] / part.shape[1], small.shape[0] / part.shape[0]])
    return small, ((mesh - (x0, y0)) * factor).astype(np.float32)


def _mean_shape(meshes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean of meshes [n, 478, 3] after turning each onto the first."""
    centred = meshes.astype(np.float64) - meshes.mean(1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    mean = centred[0]
    for _ in range(3):
        u, _, v = np.linalg.svd(np.einsum("nki,kj->nij", centred, mean))
        mean = (centred @ (u @ v)).mean(0)
    return mean


def mesh_look(patch: Image, rng: Rng) -> Image:
    """An input of the landmarker, grey [112, 112], from a close-up: its colours, light, blur and noise."""
    return degraded(_grey(patch, rng), rng)[..., 0]


def close_up(samples: FaceSamples, rng: Rng) -> tuple[Image, npt.NDArray[np.float32], bool]:
    """A square [112, 112, 3], the mesh [478, 2] in parts of it, and whether it shows a face."""
    n = int(rng.integers(len(samples)))
    picture, mesh = samples.pictures[n], samples.meshes[n]
    if rng.random() < (0.35 if samples.mistakes else 0.2):
        return _no_face(samples, rng, MESH_SIDE), np.zeros_like(mesh), False
    low, high = mesh.min(0), mesh.max(0)
    face = float((high - low).max())
    centre = (low + high) / 2 + rng.uniform(-0.14, 0.14, 2) * face
    side = MESH_SCALE * face * float(np.exp(rng.uniform(-0.25, 0.3)))
    flip = bool(rng.random() < 0.5)
    matrix = _placement(centre, side, MESH_SIDE, np.clip(rng.normal(0, 14), -40, 40), flip, rng)
    patch = _warp(picture, matrix, MESH_SIDE, rng)
    points = (mesh @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32) / MESH_SIDE
    if flip:
        points = points[samples.mirror]
    if rng.random() < 0.25:
        _occlude(patch, samples, rng)
    return patch, points, True


def scene(samples: FaceSamples, rng: Rng, side: int = DETECT_SIDE) -> tuple[Image, npt.NDArray[np.float32]]:
    """A composed picture [side, side, 3] with 0 to 4 faces, and their boxes [n, 4] (x, y, w, h)."""
    canvas = _no_face(samples, rng, side)
    boxes: list[npt.NDArray[np.float64]] = []
    for _ in range(int(rng.choice(5, p=[0.12, 0.55, 0.18, 0.1, 0.05]))):
        n = int(rng.integers(len(samples)))
        picture, mesh = samples.pictures[n], samples.meshes[n]
        low, high = mesh.min(0), mesh.max(0)
        face = float((high - low).max())
        size = side * float(np.exp(rng.uniform(np.log(0.07), np.log(0.97 if not boxes else 0.4))))
        spot = (
            rng.uniform(0.02, 0.98, 2) * (side - size) + size / 2
            if rng.random() < 0.8
            else rng.uniform(0, side, 2)
        )
        offset = (side / 2 - spot) * face / size
        flip = bool(rng.random() < 0.5)
        if flip:
            offset[0] = -offset[0]
        matrix = _placement(
            (low + high) / 2, side * face / size, side, np.clip(rng.normal(0, 12), -35, 35), flip, rng
        )
        matrix[:, 2] += spot - side / 2
        points = mesh @ matrix[:, :2].T + matrix[:, 2]
        box = np.concatenate([points.min(0), np.ptp(points, axis=0)])
        mask = _mask(picture, mesh, matrix, side, rng)
        covered = [mask[_span(b, side)].mean() if mask[_span(b, side)].size else 0.0 for b in boxes]
        inside = (np.clip(points, 0, side) == points).all(1).mean()
        if inside < 0.6 or max(covered, default=0.0) > 0.15:
            continue
        patch = _warp(picture, matrix, side, rng)
        canvas = (canvas * (1 - mask[..., None]) + patch * mask[..., None]).astype(np.uint8)
        boxes.append(box)
    if rng.random() < 0.2:
        _occlude(canvas, samples, rng, boxes)
    return canvas, np.array(boxes, np.float32).reshape(-1, 4)


def _placement(
    centre: npt.ArrayLike, side: float, size: int, degrees: float, flip: bool, rng: Rng
) -> npt.NDArray:
    """Affine [2, 3] from a picture to a square of `size` whose middle shows `centre` and which is `side` wide there."""
    angle, scale = np.deg2rad(degrees), size / side
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag(np.exp(rng.normal(0, 0.04, 2))) * scale
    if flip:
        turn = turn @ np.diag([-1.0, 1.0])
    return np.concatenate([turn, (size / 2 - turn @ np.asarray(centre, np.float64))[:, None]], 1)


def _warp(picture: Image, matrix: npt.NDArray[np.float64], size: int, rng: Rng) -> Image:
    matrix = matrix.copy()
    shrink = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink < 0.5:  # averaging first keeps small faces free of aliasing
        part = max(0.02, 2 * shrink)
        w, h = max(1, round(picture.shape[1] * part)), max(1, round(picture.shape[0] * part))
        matrix[:, :2] = matrix[:, :2] @ np.diag([picture.shape[1] / w, picture.shape[0] / h])
        picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    matrix[:, 2] += 0.5 * matrix[:, :2].sum(1) - 0.5  # pixel i has its middle at i + 0.5
    border = cv2.BORDER_REPLICATE if rng.random() < 0.6 else cv2.BORDER_CONSTANT
    colour = rng.integers(0, 256, 3).tolist()
    warped = cv2.warpAffine(
        picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=colour
    )
    return np.asarray(warped, np.uint8)


def _mask(
    picture: Image, mesh: npt.NDArray, matrix: npt.NDArray, size: int, rng: Rng
) -> npt.NDArray[np.float32]:
    """Weight [size, size] of a pasted picture: all of the canvas, the picture's own area, or an oval about the face."""
    shape = rng.random()
    if shape < 0.3:
        return np.ones((size, size), np.float32)
    if shape < 0.7:
        area = np.full(picture.shape[:2], 1.0, np.float32)
        return np.asarray(cv2.warpAffine(area, matrix, (size, size)), np.float32)
    points = mesh @ matrix[:, :2].T + matrix[:, 2]
    centre, span = (points.min(0) + points.max(0)) / 2, np.ptp(points, axis=0) * rng.uniform(0.65, 0.95, 2)
    mask = np.zeros((size, size), np.float32)
    cv2.ellipse(mask, (centre.tolist(), (2 * span).tolist(), float(rng.uniform(-10, 10))), 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.03 * float(span.max()))), np.float32)


def _no_face(samples: FaceSamples, rng: Rng, size: int) -> Image:
    """A picture [size, size, 3] without a face: drawn, shuffled, smeared, or cut beside a face."""
    if (samples.free or (samples.mistakes and size == MESH_SIDE)) and rng.random() < 0.6:
        return _mistake(samples, rng, size)
    kind = rng.random()
    n = int(rng.integers(len(samples)))
    picture, mesh = samples.pictures[n], samples.meshes[n]
    if kind < 0.3:
        return _beside(picture, mesh, rng, size)
    if kind < 0.5:  # shuffled blocks
        small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        block = size // int(rng.integers(7, 12))  # smaller than half a face
        out = small.copy()
        places = [
            (y, x) for y in range(0, size - block + 1, block) for x in range(0, size - block + 1, block)
        ]
        for (y, x), k in zip(places, rng.permutation(len(places))):
            v, u = places[k]
            out[y : y + block, x : x + block] = small[v : v + block, u : u + block]
        return out
    if kind < 0.6:  # a face's surroundings with the face smeared away
        low, high = mesh.min(0), mesh.max(0)
        few = max(2, round(2.2 * max(picture.shape[:2]) / float((high - low).max())))
        smeared = cv2.resize(picture, (few, few), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(smeared, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
    return _drawn(rng, size)


def _mistake(samples: FaceSamples, rng: Rng, size: int) -> Image:
    """What an earlier net took for a face: as the landmarker's close-up, or somewhere in the detector's picture."""
    patch = samples.mistakes[int(rng.integers(len(samples.mistakes) if size == MESH_SIDE else samples.free))]
    whole = patch.shape[0]
    if size == MESH_SIDE:
        side = whole * MESH_SCALE / MISTAKE_SCALE * float(np.exp(rng.uniform(-0.25, 0.3)))
        x, y = (whole - side) / 2 + rng.uniform(-0.05, 0.05, 2) * whole
    else:
        side = whole * rng.uniform(0.5, 1.0)
        x, y = rng.uniform(0, whole - side, 2)
    part = patch[max(0, int(y)) : int(y + side), max(0, int(x)) : int(x + side)]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return np.asarray(
        cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=cv2.INTER_AREA), np.uint8
    )


def _beside(picture: Image, mesh: npt.NDArray, rng: Rng, size: int) -> Image:
    """A part of a picture that holds less than a sliver of its face, or a tiny detail of the face."""
    height, width = picture.shape[:2]
    low, high = mesh.min(0), mesh.max(0)
    for _ in range(20):
        side = float(np.exp(rng.uniform(np.log(0.12), np.log(0.8)))) * min(height, width)
        x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        shared = np.prod(np.maximum(0, np.minimum(high, (x + side, y + side)) - np.maximum(low, (x, y))))
        detail = side < 0.3 * float((high - low).max())
        if shared < 0.1 * side * side or detail:
            part = picture[int(y) : int(y + side) + 1, int(x) : int(x + side) + 1]
            if rng.random() < 0.5:
                part = part[:, ::-1]
            if rng.random() < 0.3:
                part = np.rot90(part, int(rng.integers(1, 4)))
            return np.asarray(cv2.resize(np.ascontiguousarray(part), (size, size)), np.uint8)
    return _drawn(rng, size)


def _drawn(rng: Rng, size: int) -> Image:
    """Gradients, noise of several scales, stripes, shapes, text."""
    corner = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    image = cv2.resize(corner, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    for cells in (4, 12, 40):
        if rng.random() < 0.5:
            noise = rng.normal(0, rng.uniform(5, 50), (cells, cells, int(rng.choice([1, 3])))).astype(
                np.float32
            )
            large = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
            image += large if large.ndim == 3 else large[..., None]
    if rng.random() < 0.3:
        at = np.arange(size) / size
        angle = rng.uniform(0, np.pi)
        wave = np.sin(
            2 * np.pi * rng.uniform(2, 30) * (np.cos(angle) * at[None] + np.sin(angle) * at[:, None])
        )
        image += (rng.uniform(10, 60) * (wave if rng.random() < 0.5 else np.sign(wave)))[..., None]
    canvas = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(0, 12))):
        colour = rng.integers(0, 256, 3).tolist()
        x, y, u, v = rng.integers(0, size, 4).tolist()
        shape = rng.random()
        if shape < 0.3:
            cv2.rectangle(canvas, (x, y), (u, v), colour, int(rng.choice([-1, 1, 3])))
        elif shape < 0.65:
            axes = (max(1, u // 4), max(1, v // 4))
            cv2.ellipse(
                canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, int(rng.choice([-1, -1, 2]))
            )
        elif shape < 0.85:
            cv2.line(canvas, (x, y), (u, v), colour, int(rng.integers(1, 5)))
        else:
            letters = "".join(rng.choice(list("aeoBDO0869:;.-()xn"), int(rng.integers(1, 8))))
            cv2.putText(
                canvas, letters, (x // 2, y), int(rng.integers(0, 8)), float(rng.uniform(0.3, 2.5)), colour, 2
            )
    return canvas


def _occlude(image: Image, samples: FaceSamples, rng: Rng, boxes: Sequence[npt.NDArray] = ()) -> None:
    """Cover a rectangle with a colour or with a part of another picture, in place; at most 40 % of any of `boxes`."""
    size = image.shape[0]
    w, h = (rng.uniform(0.08, 0.35, 2) * size).astype(int)
    x, y = int(rng.integers(0, size - w)), int(rng.integers(0, size - h))
    for box in boxes:
        shared = np.minimum(box[:2] + box[2:], (x + w, y + h)) - np.maximum(box[:2], (x, y))
        if np.prod(np.maximum(0, shared)) > 0.4 * np.prod(box[2:]):
            return
    if rng.random() < 0.5:
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    else:
        n = int(rng.integers(len(samples)))
        image[y : y + h, x : x + w] = cv2.resize(
            _beside(samples.pictures[n], samples.meshes[n], rng, size), (w, h)
        )


def _grey(image: Image, rng: Rng) -> Image:
    """[H, W, 3] -> [H, W, 1] with weights near, but not at, the usual ones: an invariance to colour."""
    weights = rng.dirichlet((3, 6, 1.5)).astype(np.float32)
    return np.asarray(cv2.transform(image, weights[None]), np.uint8)[..., None]


def degraded(image: Image, rng: Rng) -> Image:
    """Colour, light, blur, noise and compression as they come in the world; any [H, W, C]."""
    height, width, channels = image.shape
    if channels == 3 and rng.random() < 0.2:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    level = np.arange(256, dtype=np.float64)[:, None] * np.exp(rng.normal(0, 0.12, channels))  # [256, C]
    middle = rng.uniform(90, 160)
    level = (level - middle) * np.exp(rng.normal(0, 0.25)) + middle + rng.normal(0, 18)
    level = 255 * (np.clip(level, 0, 255) / 255) ** np.exp(rng.normal(0, 0.25))
    x = cv2.LUT(np.ascontiguousarray(image), level.astype(np.uint8)[None]).reshape(image.shape)
    if rng.random() < 0.25:  # light from one side
        ramp = cv2.resize(rng.uniform(0.4, 1.2, (2, 2)).astype(np.float32), (width, height))
        x = cv2.multiply(x.reshape(height, width * channels), np.repeat(ramp, channels, 1), dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x.reshape(image.shape), (0, 0), rng.uniform(0.4, 2.0))
    if rng.random() < 0.3:
        noise = (rng.integers(0, 256, image.shape, np.uint8) * rng.uniform(0.02, 0.2)).astype(np.uint8)
        x = cv2.subtract(cv2.add(x.reshape(image.shape), noise.reshape(image.shape)), 10)
    if rng.random() < 0.2:
        coded = cv2.imencode(
            ".jpg", x.reshape(image.shape), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
        )
        x = cv2.imdecode(coded[1], cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE)
    if rng.random() < 0.15:
        small = cv2.resize(x.reshape(image.shape), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, (width, height))
    return np.asarray(x, np.uint8).reshape(image.shape)


def _span(box: npt.NDArray, size: int) -> tuple[slice, slice]:
    x0, y0, x1, y1 = np.clip([box[0], box[1], box[0] + box[2], box[1] + box[3]], 0, size).astype(int)
    return slice(y0, y1), slice(x0, x1)
