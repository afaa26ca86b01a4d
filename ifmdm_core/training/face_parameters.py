"""Twenty face parameters of a landmark mesh: 6 of head pose, 10 of lips and jaw, 4 of eyes and brows.

They warm-start the motion encoder (an image-to-numbers regression, which generalises across people far better
than learning motion from warping alone). A face's mesh is aligned to a mean shape by a similarity transform
over points that expressions hardly move; what is left, minus the person's own resting shape, is expression.
The resting shape is not observable in one clip, so the clip mean is restored through the blendshape scores,
which a landmarker gives free of identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

POSE, LIPS, EYES = slice(0, 6), slice(6, 16), slice(16, 20)
"""Columns: (yaw, pitch, roll, x, y, log size), lips and jaw, eyes and brows."""
ROLL, X, Y, LOG_SIZE = 2, 3, 4, 5
MOTION_GAIN = 0.4
"""Standardised parameters times this go through tanh: |m| > 0.95 only beyond 4.6 standard deviations."""

# Mesh points (478-point topology) that stay with the skull: forehead, nose bridge, eye corners, temples.
STABLE = (
    10,
    109,
    338,
    67,
    297,
    151,
    9,
    8,
    168,
    6,
    197,
    195,
    5,
    33,
    133,
    362,
    263,
    127,
    356,
    234,
    454,
    162,
    389,
)
PAIRS = {33: 263, 133: 362, 127: 356, 234: 454, 61: 291, 109: 338, 67: 297, 162: 389, 159: 386, 145: 374}
"""Left-right counterparts, enough to turn a shape to the front."""
LIP_POINTS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 185, 40,
    39, 37, 0, 267, 269, 270, 409, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78,
)  # fmt: skip
JAW_POINTS = (
    152,
    148,
    176,
    149,
    150,
    136,
    172,
    377,
    400,
    378,
    379,
    365,
    397,
    199,
    200,
    18,
    175,
    205,
    425,
    57,
    287,
)
EYE_POINTS = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 263, 249, 390, 373, 374, 380,
    381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 70, 63, 105, 66, 107, 300, 293, 334, 296, 336, 468, 473,
)  # fmt: skip


def align(points: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity transforms taking `reference` [K, 3] onto `points` [N, K, 3] (Umeyama 1991).

    Returns rotation [N, 3, 3], size [N], translation [N, 3] with points ≈ size * reference @ Rᵀ + translation.
    """
    mean, centre = points.mean(1), reference.mean(0)  # [N, 3], [3]
    a, b = points - mean[:, None], reference - centre
    u, s, vt = np.linalg.svd(np.einsum("nki,kj->nij", a, b))  # [N, 3, 3]
    sign = np.sign(np.linalg.det(u @ vt))
    s[:, 2] *= sign
    u[:, :, 2] *= sign[:, None]
    rotation = u @ vt
    size = s.sum(1) / (b**2).sum()
    return rotation, size, mean - size[:, None] * np.einsum("nij,j->ni", rotation, centre)


def euler(rotation: np.ndarray) -> np.ndarray:
    """(yaw, pitch, roll) in radians, [N, 3], of R = Rz(roll) Ry(yaw) Rx(pitch); an in-plane turn adds to roll."""
    yaw = np.arcsin(np.clip(-rotation[:, 2, 0], -1, 1))
    pitch = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.stack([yaw, pitch, roll], 1)


def _components(values: np.ndarray, count: int) -> np.ndarray:
    """Leading principal directions [D, count] of centred rows [N, D]."""
    _, vectors = np.linalg.eigh(values.T @ values)
    return vectors[:, ::-1][:, :count]


@dataclass(frozen=True)
class FaceModel:
    """The mean shape, expression basis and scales; fitted on training clips, applied to any."""

    reference: np.ndarray  # [478, 3]
    lip_basis: np.ndarray  # [3 * (lips + jaw), 10]
    eye_basis: np.ndarray  # [3 * eyes, 4]
    resting: np.ndarray  # [52, 14], blendshapes to expression
    neutral: np.ndarray  # [52], mean blendshapes
    centre: np.ndarray  # [20]
    scale: np.ndarray  # [20]
    mirror: np.ndarray  # [21, 20]: (parameters, 1) @ mirror = those of the mirrored picture

    @classmethod
    def fit(
        cls,
        landmarks: np.ndarray,
        blendshapes: np.ndarray,
        valid: np.ndarray,
        clips: list[np.ndarray],
        training: np.ndarray,
    ) -> FaceModel:
        """Fit on rows `training` of landmarks [N, 478, 3]; `clips` lists each clip's rows."""
        rows = training[valid[training]]
        train_rows = set(rows.tolist())
        stable = list(STABLE)
        shapes = landmarks[rows[:: max(1, len(rows) // 4000)]]
        reference = shapes[0]
        for _ in range(4):  # generalised Procrustes: align to the mean, average, repeat
            rotation, size, shift = align(shapes[:, stable], reference[stable])
            local = np.einsum("nji,nkj->nki", rotation, shapes - shift[:, None]) / size[:, None, None]
            reference = local.mean(0)
        reference = _frontal(reference)
        draft = cls(reference, *[np.zeros(0)] * 7)
        # Mirrored faces are fitted too: the basis is then closed under mirroring, so flips stay exact.
        mirrored = mirror_landmarks(landmarks, mirror_permutation(reference)), mirror_blendshapes(blendshapes)
        keep = [c[valid[c]] for c in clips if len(c) > 8 and valid[c].mean() > 0.9]
        keep = [c for c in keep if c[0] in train_rows]
        lips, eyes, scores = [], [], []
        for mesh, score in ((landmarks, blendshapes), mirrored):
            every_lip, every_eye, _ = draft._expressions(mesh)
            lips += [every_lip[c] - every_lip[c].mean(0) for c in keep]
            eyes += [every_eye[c] - every_eye[c].mean(0) for c in keep]
            scores += [score[c] - score[c].mean(0) for c in keep]
        all_lips, all_eyes, all_scores = map(np.concatenate, (lips, eyes, scores))
        lip_basis, eye_basis = _components(all_lips, 10), _components(all_eyes, 4)
        expression = np.concatenate([all_lips @ lip_basis, all_eyes @ eye_basis], 1)
        gram = all_scores.T @ all_scores + 1e-3 * len(all_scores) * np.eye(52) * all_scores.var()
        resting = np.linalg.solve(gram, all_scores.T @ expression)
        unscaled = cls(
            reference, lip_basis, eye_basis, resting, blendshapes[rows].mean(0), np.zeros(20), np.ones(20),
            np.eye(21, 20),
        )  # fmt: skip
        raw = unscaled.parameters(landmarks, blendshapes, valid, clips)
        centre, scale = np.median(raw[rows], 0), raw[rows].std(0) + 1e-6
        model = cls(reference, lip_basis, eye_basis, resting, unscaled.neutral, centre, scale, np.eye(21, 20))
        flipped = model.parameters(*mirrored, valid, clips)
        straight = model.parameters(landmarks, blendshapes, valid, clips)
        mirror = np.linalg.lstsq(
            np.pad(straight[rows], ((0, 0), (0, 1)), constant_values=1), flipped[rows], rcond=None
        )[0]
        return cls(reference, lip_basis, eye_basis, resting, unscaled.neutral, centre, scale, mirror)

    def _expressions(self, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """De-posed lip [N, 3·], eye [N, 3·] coordinates and pose [N, 6]."""
        local, rotation, size, shift = self.locals(landmarks)
        pose = np.concatenate([euler(rotation), shift[:, :2], np.log(size)[:, None]], 1)
        lips = local[:, list(LIP_POINTS + JAW_POINTS)].reshape(len(local), -1)
        eyes = local[:, list(EYE_POINTS)].reshape(len(local), -1)
        return lips, eyes, pose

    def parameters(
        self, landmarks: np.ndarray, blendshapes: np.ndarray, valid: np.ndarray, clips: list[np.ndarray]
    ) -> np.ndarray:
        """Standardised parameters [N, 20]; rows without a face are zero."""
        lips, eyes, pose = self._expressions(landmarks)
        expression = np.concatenate([lips @ self.lip_basis, eyes @ self.eye_basis], 1)  # [N, 14]
        for rows in clips:
            seen = rows[valid[rows]]
            if len(seen):
                rest = (blendshapes[seen].mean(0) - self.neutral) @ self.resting
                expression[rows] += rest - expression[seen].mean(0)
        raw = np.concatenate([pose, expression], 1)
        return np.where(valid[:, None], (raw - self.centre) / self.scale, 0).astype(np.float32)

    @cached_property
    def permutation(self) -> np.ndarray:
        """For each mesh point the index of its left-right counterpart, [478]."""
        return mirror_permutation(self.reference)

    def locals(self, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Meshes [N, 478, 3] without pose, and the rotation [N, 3, 3], size [N], shift [N, 3] taken out."""
        stable = list(STABLE)
        rotation, size, shift = align(landmarks[:, stable], self.reference[stable])
        size = np.maximum(size, 1e-6)  # rows without a face are all zero
        local = np.einsum("nji,nkj->nki", rotation, landmarks - shift[:, None]) / size[:, None, None]
        return local, rotation, size, shift

    def flip(self, parameters: np.ndarray) -> np.ndarray:
        """Standardised parameters [N, 20] of the mirrored pictures."""
        return parameters @ self.mirror[:-1] + self.mirror[-1]

    def move(self, parameters: np.ndarray, turn: float, zoom: float, offset: np.ndarray) -> np.ndarray:
        """Standardised parameters [N, 20] after an in-plane similarity of the picture.

        Points x go to `zoom` R(`turn`) (x − ½) + ½ + `offset` (radians, crop coordinates).
        """
        raw = parameters * self.scale + self.centre
        c, s = zoom * np.cos(turn), zoom * np.sin(turn)
        x, y = raw[:, X] - 0.5, raw[:, Y] - 0.5
        raw[:, X], raw[:, Y] = c * x - s * y + 0.5 + offset[0], s * x + c * y + 0.5 + offset[1]
        raw[:, ROLL] += turn
        raw[:, LOG_SIZE] += np.log(zoom)
        return ((raw - self.centre) / self.scale).astype(np.float32)

    def save(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> FaceModel:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def motion_targets(parameters: np.ndarray) -> np.ndarray:
    """Standardised parameters [N, 20] to motion vectors [N, 20] in (-1, 1)."""
    return np.tanh(MOTION_GAIN * parameters).astype(np.float32)


def _frontal(reference: np.ndarray) -> np.ndarray:
    """Turn a mean shape to face the camera, centre it, make it symmetric left to right and of unit width."""
    left, right = list(PAIRS), list(PAIRS.values())
    across = (reference[right] - reference[left]).mean(0)
    across /= np.linalg.norm(across)
    down = reference[152] - reference[10]
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    shape = (reference - reference[left + right].mean(0)) @ np.stack(
        [across, down, np.cross(across, down)], 1
    )
    shape = (shape + shape[mirror_permutation(shape)] * (-1, 1, 1)) / 2
    shape = shape - shape[list(STABLE)].mean(0)
    return shape / np.ptp(shape[:, 0])


def mirror_permutation(reference: np.ndarray) -> np.ndarray:
    """For each mesh point the index of its left-right counterpart, from a near-symmetric shape [478, 3]."""
    centred = reference - reference[list(PAIRS) + list(PAIRS.values())].mean(0)
    flipped = centred * (-1, 1, 1)
    distance = ((flipped[:, None] - centred[None]) ** 2).sum(2)
    distance[468:, :468] = distance[:468, 468:] = 1e6  # irises pair with irises
    return distance.argmin(1)


def mirror_landmarks(landmarks: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """The mesh [N, 478, 3] of the pictures flipped left to right (crop coordinates: x becomes 1 - x)."""
    flipped = landmarks[:, permutation].copy()
    flipped[..., 0] = 1 - flipped[..., 0]
    return flipped


def mirror_blendshapes(blendshapes: np.ndarray) -> np.ndarray:
    """Scores [N, 52] of the flipped pictures: Left and Right change places."""
    from ifmdm_core.training.dataset import BLENDSHAPES

    def partner(name: str) -> str:
        if "Left" in name:
            return name.replace("Left", "Right")
        return name.replace("Right", "Left") if "Right" in name else name

    swapped = {
        "jawLeft": "jawRight",
        "jawRight": "jawLeft",
        "mouthLeft": "mouthRight",
        "mouthRight": "mouthLeft",
    }
    order = [BLENDSHAPES.index(swapped.get(name, partner(name))) for name in BLENDSHAPES]
    return blendshapes[:, order]
