"""Samples for stage 1: a portrait, other frames of the same person, and where each mesh point went.

Three ways to get another frame: a real one of the same clip (picture and mesh); the portrait's own mesh
carried by a displacement that a stranger's face made (mesh only, so a photo gets a moving face and every
person every motion); augmentation of both (the same for a portrait and its targets).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ifmdm_core.autoencoder.closeups import EYES, MOUTH, Closeups, Part
from ifmdm_core.training.dataset import ClipRecord, TrainingSet
from ifmdm_core.training.face_parameters import (
    EYE_POINTS,
    LIP_POINTS,
    LIPS,
    POSE,
    FaceModel,
    mirror_landmarks,
    motion_targets,
)
from ifmdm_core.training.loop import sample_rng

KIND_SHARES = {"news": 0.4, "mixed": 0.4, "grid": 0.05, "portrait": 0.15}
"""How often each kind of clip gives the portrait; people in `mixed` are few-clip strangers, so they weigh more."""


@dataclass(frozen=True)
class SampleSpec:
    """What a batch holds."""

    sources: int = 8
    """Portraits."""
    targets: int = 2
    """Frames for each portrait."""
    pictures: bool = True
    """Whether targets come with pictures; without, only meshes (faster, and portraits may be moved freely)."""
    carried: float = 0.0
    """Share of targets whose mesh is the portrait's carried by a stranger's displacement (no picture then)."""
    reduced: bool = False
    """Pictures at half the side, for the motion encoder."""
    seed: int = 0


@dataclass(frozen=True)
class Augmentation:
    """One random change of framing and colour, the same for a portrait and its targets."""

    flip: bool
    turn: float
    zoom: float
    offset: np.ndarray
    table: np.ndarray
    mix: np.ndarray
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Augmentation:
        gamma, contrast = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.15))
        level = np.arange(256) / 255
        gains, shift = np.exp(rng.normal(0, 0.08, 3)), rng.normal(0, 0.05)
        table = ((level**gamma - 0.5) * contrast + 0.5 + shift)[:, None] * gains
        grey = np.full((3, 3), 1 / 3)
        saturation = rng.uniform(0.0, 1.4) if rng.random() < 0.7 else 1.0
        hue = rng.normal(0, 0.04, (3, 3)) * (1 - np.eye(3))
        mix = saturation * np.eye(3) + (1 - saturation) * grey + hue - np.diag(hue.sum(1))
        return cls(
            flip=bool(rng.random() < 0.5),
            turn=float(np.clip(rng.normal(0, 0.1), -0.35, 0.35)),
            zoom=float(np.exp(np.clip(rng.normal(0, 0.1), -0.25, 0.25))),
            offset=np.clip(rng.normal(0, 0.03, 2), -0.09, 0.09),
            table=np.clip(table * 255, 0, 255).astype(np.uint8)[None],
            mix=mix.astype(np.float32),
            blur=float(rng.uniform(0.4, 1.6)) if rng.random() < 0.2 else 0.0,
            noise=float(rng.uniform(1, 6)) if rng.random() < 0.2 else 0.0,
        )

    def picture(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 [S, S, 3] to uint8 [S, S, 3]."""
        size = image.shape[0]
        if self.flip:
            image = image[:, ::-1]
        c, s = self.zoom * np.cos(self.turn), self.zoom * np.sin(self.turn)
        middle = (size - 1) / 2
        matrix = np.array([[c, -s, 0], [s, c, 0]])
        matrix[:, 2] = middle + self.offset * size - matrix[:, :2] @ (middle, middle)
        image = cv2.warpAffine(
            np.ascontiguousarray(image), matrix, (size, size), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        return self.colours(image, rng)

    def colours(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The change of colour, sharpness and grain alone, uint8 [H, W, 3] to the same."""
        image = cv2.LUT(cv2.transform(image, self.mix), self.table)
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            grain = rng.integers(-int(self.noise) - 1, int(self.noise) + 2, image.shape[:2], np.int16)
            image = np.clip(image.astype(np.int16) + grain[..., None], 0, 255).astype(np.uint8)
        return image

    def mesh(self, landmarks: np.ndarray, model: FaceModel) -> np.ndarray:
        """Crop coordinates [n, 478, 3] to [n, 478, 2]."""
        if self.flip:
            landmarks = mirror_landmarks(landmarks, model.permutation)
        return self.points(landmarks[..., :2])

    def points(self, points: np.ndarray) -> np.ndarray:
        """Crop coordinates [..., 2] of points in the picture, flipped before if need be, to where they are after."""
        c, s = self.zoom * np.cos(self.turn), self.zoom * np.sin(self.turn)
        turned = (points - 0.5) @ np.array([[c, -s], [s, c]]).T
        return (turned + 0.5 + self.offset).astype(np.float32)

    def parameters(self, parameters: np.ndarray, model: FaceModel) -> np.ndarray:
        """Standardised parameters [n, 20]."""
        if self.flip:
            parameters = model.flip(parameters)
        return model.move(parameters, self.turn, self.zoom, self.offset)


class PairDataset(Dataset):
    """Batch number k of an endless, seeded sequence (index it by step; resuming needs no other state)."""

    def __init__(self, training_set: TrainingSet, spec: SampleSpec) -> None:
        self.set, self.spec = training_set, spec
        self.model = FaceModel.load(training_set.folder / "face_model.npz")
        self.motions = training_set.targets
        clips = [c for c in training_set.clips if c.split == "train"]
        self.rows = {c.name: c.first + np.flatnonzero(training_set.valid[c.rows]) for c in clips}
        clips = [c for c in clips if len(self.rows[c.name])]
        self.clips = {k: [c for c in clips if c.kind == k] for k in KIND_SHARES}
        self.shares = {
            k: v for k, v in KIND_SHARES.items() if self.clips[k] and (k != "portrait" or not spec.pictures)
        }
        self.donors = [c for c in clips if c.num_frames > 8]

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """`image` uint8 [B, S, S, 3]; `motion` [B, 20]; `mesh` [B, 478, 2]; `targets` [B, K, 20];
        `target_mesh` [B, K, 478, 2]; with pictures `target_image` uint8 [B, K, S, S, 3]."""
        samples = [self._sample(sample_rng(self.spec.seed, step, i)) for i in range(self.spec.sources)]
        return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}

    def _sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        clip = self._clip(rng)
        source = int(rng.choice(self.rows[clip.name]))
        augmentation = Augmentation.draw(rng)
        mesh = np.asarray(self.set.landmarks[source : source + 1])
        parameters = np.asarray(self.set.parameters[source : source + 1])
        meshes, wanted, pictures = [], [], []
        for _ in range(self.spec.targets):
            if not self.spec.pictures and (clip.kind == "portrait" or rng.random() < self.spec.carried):
                moved, moved_parameters = self._carry(mesh, parameters, rng)
            else:
                row = self._other_row(clip, source, rng)
                moved, moved_parameters = (
                    self.set.landmarks[row : row + 1],
                    self.set.parameters[row : row + 1],
                )
                if self.spec.pictures:
                    pictures.append(augmentation.picture(self.set.frame(row), rng))
            meshes.append(augmentation.mesh(moved, self.model)[0])
            wanted.append(augmentation.parameters(moved_parameters, self.model)[0])
        sample = {
            "image": augmentation.picture(self.set.frame(source, reduced=self.spec.reduced), rng),
            "mesh": augmentation.mesh(mesh, self.model)[0],
            "motion": motion_targets(augmentation.parameters(parameters, self.model))[0],
        }
        if meshes:
            sample |= {"target_mesh": np.stack(meshes), "targets": motion_targets(np.stack(wanted))}
        if pictures:
            sample["target_image"] = np.stack(pictures)
        return sample

    def _clip(self, rng: np.random.Generator) -> ClipRecord:
        kinds = list(self.shares)
        weights = np.array([self.shares[k] for k in kinds])
        return self._any(self.clips[kinds[rng.choice(len(kinds), p=weights / weights.sum())]], rng)

    def _row(self, rng: np.random.Generator) -> int:
        return int(rng.choice(self.rows[self._clip(rng).name]))

    @staticmethod
    def _any(clips: list[ClipRecord], rng: np.random.Generator) -> ClipRecord:
        return clips[int(rng.integers(len(clips)))]

    def _other_row(self, clip: ClipRecord, source: int, rng: np.random.Generator) -> int:
        """A frame of the clip, in proportion to how far its lips and pose are from the portrait's."""
        candidates = rng.choice(self.rows[clip.name], 8)
        away = np.abs(self.motions[candidates] - self.motions[source])
        distance = away[:, LIPS].mean(1) + 0.5 * away[:, POSE].mean(1) + 0.02
        return int(candidates[rng.choice(8, p=distance / distance.sum())])

    def _carry(
        self, mesh: np.ndarray, parameters: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mesh [1, 478, 3] and parameters [1, 20] after the displacement between two frames of a stranger."""
        donor = self.rows[self._any(self.donors, rng).name]
        first, second = (int(r) for r in rng.choice(donor, 2))
        pair = np.stack([self.set.landmarks[first], self.set.landmarks[second]])
        local, rotation, size, shift = self.model.locals(pair)
        own, own_rotation, own_size, own_shift = self.model.locals(mesh)
        face = own[0] + (local[1] - local[0])
        turned = (rotation[1] @ rotation[0].T) @ own_rotation[0]
        grown = own_size[0] * size[1] / size[0]
        place = own_shift[0] + (shift[1] - shift[0]) * own_size[0] / size[0]
        moved = (grown * face @ turned.T + place)[None].astype(np.float32)
        change = self.set.parameters[second] - self.set.parameters[first]
        result = parameters + change
        # Rotations do not add: take the pose from the mesh that was built.
        pose = self.model._expressions(moved)[2]
        result[:, POSE] = (pose - self.model.centre[POSE]) / self.model.scale[POSE]
        return moved, result


class PartDataset(PairDataset):
    """Close-ups of mouth and eyes, placed by the labels' pose as wrongly as a pose estimate may be.

    Item k: `mouth` uint8 [B, 64, 64, 3], `eyes` uint8 [B, 48, 96, 3], `seen_pose` [B, 6], `motion` [B, 20].
    """

    POSE_ERROR = 0.03
    """Standard deviation of what is added to each pose number."""

    def __init__(self, training_set: TrainingSet, spec: SampleSpec) -> None:
        super().__init__(training_set, spec)
        self.closeups = Closeups()
        describe_face(self.closeups, self.model)

    def _sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        row = self._row(rng)
        augmentation = Augmentation.draw(rng)
        picture = self.set.frame(row)
        parameters = np.asarray(self.set.parameters[row : row + 1])
        if augmentation.flip:
            picture, parameters = np.ascontiguousarray(picture[:, ::-1]), self.model.flip(parameters)
        motion = motion_targets(parameters)
        error = rng.normal(0, self.POSE_ERROR, (1, 6)).astype(np.float32)
        pose = torch.from_numpy(np.clip(motion[:, POSE] + error, -0.99, 0.99))
        sample = {"motion": motion[0], "seen_pose": pose[0].numpy()}
        for name, part in (("mouth", MOUTH), ("eyes", EYES)):
            cut = self._cut(picture, pose, part)
            sample[name] = augmentation.colours(cut, rng)
        return sample

    def _cut(self, picture: np.ndarray, pose: Tensor, part: Part) -> np.ndarray:
        """The same cut as `Closeups.forward` makes, by OpenCV."""
        centre, axes = (t[0].numpy() for t in self.closeups.placement(pose, part))
        side, (height, width) = picture.shape[0], part.shape
        matrix = np.zeros((2, 3))
        matrix[:, 0], matrix[:, 1] = axes[:, 0] * 2 * side / width, axes[:, 1] * 2 * side / height
        # Pixel centres: output pixel i sits at (i + 1/2) / width, input position p at p * side - 1/2.
        corner = centre * side - side * (axes[:, 0] + axes[:, 1]) - 0.5
        matrix[:, 2] = corner + (matrix[:, 0] + matrix[:, 1]) / 2
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def describe_face(closeups: Closeups, face: FaceModel) -> None:
    """Tell the close-ups where mouth and eyes sit on the mean face, and the scale of pose."""
    lips, eyes = (face.reference[list(points)].mean(0) for points in (LIP_POINTS, EYE_POINTS[:32]))
    closeups.centres.copy_(torch.from_numpy(np.stack([lips, eyes])))
    closeups.pose_centre.copy_(torch.from_numpy(face.centre[POSE]))
    closeups.pose_scale.copy_(torch.from_numpy(face.scale[POSE]))


def to_model(pictures: Tensor) -> Tensor:
    """uint8 [..., S, S, 3] to float [N, 3, S, S] in [0, 1], channels last."""
    flat = pictures.reshape(-1, *pictures.shape[-3:]).permute(0, 3, 1, 2)
    return flat.float().div_(255)
