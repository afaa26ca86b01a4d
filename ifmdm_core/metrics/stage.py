"""Where evaluation meets the model: clips as truth, renders as what the reference landmarker sees in them.

Landmarks on renders always come from the operator's reference landmarker, never from a net of this project: a
model and its judge must not share mistakes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.face import Square, clip_square, crop
from ifmdm_core.media.video import read_frames, read_video_audio
from ifmdm_core.metrics.mouth import jaw_opening, lifted, lip_points
from ifmdm_core.metrics.sync import mel_frames
from ifmdm_core.motion import MotionSampler

if TYPE_CHECKING:
    from ifmdm_core.talking_head import TalkingHead

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]

FPS = 25
FACES = 0.9
"""Least share of a clip's frames with a face."""
VIDEO_SUFFIXES = (".mp4", ".mpg", ".avi", ".mov", ".webm", ".mkv")
VARIABLE = "IFMDM_FACE_LANDMARKER"
OWN = "own"
SURE = 0.9
"""Least score of a face that is only looked at again where it was in the frame before."""

Landmarks = Callable[[Frames], Array]
"""Pictures uint8 [n, H, W, 3] to meshes [n, 478, 3] in pixels; NaN where there is no face."""


def reference_landmarker(model: str | Path | None = None) -> Landmarks | None:
    """The operator's mediapipe landmarker (argument, else the environment), or None where none is given.

    Raises NotFound for a file that is not there.
    """
    path = model or os.environ.get(VARIABLE)
    if not path:
        return None
    if not Path(path).is_file():
        raise NotFound(f"{path}: no such face landmarker model", fix=f"correct --landmarker or {VARIABLE}")
    from ifmdm_core.training.labels import Landmarker

    landmarker = Landmarker(Path(path))

    def find(pictures: Frames) -> Array:
        meshes = np.full((len(pictures), 478, 3), np.nan, np.float32)
        for i, picture in enumerate(pictures):
            if (found := landmarker(picture)) is not None:
                meshes[i] = found[0]
        return meshes

    return find


def own_landmarker() -> Landmarks:
    """Our own face net as the judge, for where there is no reference landmarker; results must say so.

    Raises NotFound when the package came without its weights.
    """
    from ifmdm_core.media.face_net import bundled

    net = bundled()
    if net is None:
        raise NotFound("the own face net's weights are not installed", fix="give --landmarker FILE")

    def find(pictures: Frames) -> Array:
        flat = np.full((len(pictures), 478, 2), np.nan, np.float32)
        box = None
        for i, picture in enumerate(pictures):
            if i and np.array_equal(picture, pictures[i - 1]):
                flat[i] = flat[i - 1]  # else a still picture's points would creep
                continue
            face = net.refine(picture, box) if box is not None else None
            if face is None or face.score < SURE:
                face = max(net(picture), key=lambda found: found.box[2] * found.box[3], default=None)
            box = None if face is None else face.box
            if face is not None:
                flat[i] = face.landmarks
        return lifted(flat)

    return find


def chosen_landmarker(model: str | Path | None = None) -> Landmarks | None:
    """The judge of lips: "own" for our own face net, else `reference_landmarker`."""
    return own_landmarker() if str(model or "") == OWN else reference_landmarker(model)


@dataclass(frozen=True)
class Lips:
    """What is measured of a mouth over time."""

    gap: Array
    """[T] between the inner lips, eye distances."""
    points: Array
    """[T, 40, 2] seen from the front."""
    lost: float
    """Share of frames in which no face was found (their values repeat the nearest frame's)."""

    @classmethod
    def of(cls, meshes: Array) -> Lips | None:
        """From meshes [T, 478, 3] with NaN where no face was; None when fewer than half have one."""
        good = np.flatnonzero(np.isfinite(meshes[:, 0, 0]))
        if len(good) < max(1, len(meshes) / 2):
            return None
        nearest = good[np.abs(np.arange(len(meshes))[:, None] - good).argmin(1)]
        filled = meshes[nearest]
        return cls(jaw_opening(filled), lip_points(filled), 1 - len(good) / len(meshes))

    def still(self, frame: int) -> Lips:
        """As if the mouth had stayed as in one frame."""
        count = len(self.gap)
        return Lips(
            np.repeat(self.gap[frame], count), np.repeat(self.points[frame][None], count, 0), self.lost
        )


@dataclass
class Clip:
    """A real video: crops, meshes and sound, cut to the seconds wanted."""

    name: str
    kind: str
    crops: Frames
    """[T, S, S, 3]."""
    meshes: Array
    """[T, 478, 3] in pixels of the crops, NaN where no face was found."""
    samples: Array
    """16 kHz, T * 640 or a little less."""
    square: Square
    """What of the video the crops are, in its pixels."""

    @cached_property
    def lips(self) -> Lips:
        lips = Lips.of(self.meshes)
        assert lips is not None  # load_clip refuses clips without a face
        return lips

    @cached_property
    def mel(self) -> Array:
        return mel_frames(self.samples, len(self.crops))

    @cached_property
    def source(self) -> int:
        """The frame that serves as the portrait: the most closed mouth (paper, section 4.5)."""
        gaps = np.where(np.isfinite(self.meshes[:, 0, 0]), self.lips.gap, np.inf)
        return int(gaps.argmin())


def load_clip(path: Path, kind: str, size: int, landmarks: Landmarks, longest_s: float) -> Clip:
    """Read, crop and label a clip.

    Raises BadInput for one that is damaged, has no sound, under a second, or no face in over a tenth of its frames.
    """
    sound = read_video_audio(str(path))
    if sound is None:
        raise BadInput(f"{path.name} has no sound", fix="leave it out")
    frames = list(read_frames(str(path), FPS, 0.0, longest_s))
    if len(frames) < FPS:
        raise BadInput(f"{path.name} has {len(frames)} frames", fix=f"give clips of {FPS} or more")
    meshes = np.concatenate(
        [landmarks(np.stack(frames[k : k + 16])) for k in range(0, len(frames), 16)]
    )  # [T, 478, 3]
    good = np.isfinite(meshes[:, 0, 0])
    if good.mean() < FACES:
        raise BadInput(
            f"{path.name}: a face is found in {good.sum()} of its {len(good)} frames", fix="leave it out"
        )
    low, high = meshes[good, :, :2].min(1), meshes[good, :, :2].max(1)
    square: Square = clip_square(np.concatenate([low, high - low], 1))
    crops = np.stack([crop(frame, square, size) for frame in frames])
    scale = size / square.side
    placed = (meshes - np.array([square.x0, square.y0, 0.0], np.float32)) * np.float32(scale)
    return Clip(path.stem, kind, crops, placed, np.array(sound.samples[: len(frames) * 640]), square)


def find_clips(folder: Path) -> list[tuple[Path, str]]:
    """Videos under a folder with their kind: the name of the first folder below it ('clips' where there is none).

    Raises NotFound when there is no video.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not files:
        raise NotFound(
            f"no video under {folder}", fix=f"give a folder with {', '.join(VIDEO_SUFFIXES)} files"
        )
    kinds = [path.relative_to(folder).parts for path in files]
    return [(path, parts[0] if len(parts) > 1 else "clips") for path, parts in zip(files, kinds, strict=True)]


class Stage:
    """A talking head with the judge's eyes: motion for sound, pictures for motion, lips in pictures."""

    def __init__(self, head: TalkingHead, landmarks: Landmarks | None) -> None:
        self.head, self.landmarks = head, landmarks
        generator = head.motion_sampler.generator
        self.lip_map: Array = generator.lip_map.float().cpu().numpy()  # [L, 20]; row 0 is the opening
        self.spread: Array = generator.offset_std.float().cpu().numpy().reshape(-1)  # [20]
        self._hintless = MotionSampler(generator, head.motion_sampler.speaking_lips, has_hint=False)

    def subject(self, picture: Frames) -> tuple[Any, torch.Tensor]:
        """Identity and hint of a crop uint8 [S, S, 3]."""
        from ifmdm_core.portrait import Portrait

        side = picture.shape[0]
        whole = Square(side / 2, side / 2, side)
        return self.head.identity(Portrait(picture, whole, picture, side, ""))

    def motion(
        self,
        samples: Array,
        hint: torch.Tensor,
        frames: int,
        controls: RenderControls | None = None,
        has_hint: bool = True,
    ) -> Array:
        """Generated motion [frames, 20] for sound [n]; without `has_hint` the network does not see m^i."""
        head = self.head
        sampler = head.motion_sampler if has_hint else self._hintless
        windows = sampler.generate(head.speech(samples), hint, controls or RenderControls(), frames)
        return torch.cat(list(windows)).float().cpu().numpy()

    def true_motion(self, crops: Frames) -> Array:
        """Motion [T, 20] that the encoder reads from real crops."""
        parts = []
        encoder = self.head.autoencoder
        with torch.inference_mode():
            for start in range(0, len(crops), 32):
                picture = torch.from_numpy(crops[start : start + 32]).to(self.head.device).permute(0, 3, 1, 2)
                parts.append(encoder.encode_motion(picture.float() / 255).float().cpu().numpy())
        return np.concatenate(parts)

    def frames(self, identity: Any, motion: Array) -> Frames:
        """Pictures [n, S, S, 3] of motion [n, 20]."""
        chunks = torch.from_numpy(np.ascontiguousarray(motion)).split(self.head.chunk)
        return np.concatenate([self.head.frames(identity, chunk) for chunk in chunks])

    def lips(self, identity: Any, motion: Array) -> Lips | None:
        """What the reference landmarker sees when the motion is rendered; None without one, or without a face."""
        if self.landmarks is None:
            return None
        chunks = torch.from_numpy(np.ascontiguousarray(motion)).split(self.head.chunk)
        return Lips.of(
            np.concatenate([self.landmarks(self.head.frames(identity, chunk)) for chunk in chunks])
        )

    def opening_direction(self) -> Array:
        """The smallest natural change of motion [20] that opens the lips by one unit of the lip map."""
        weighted = self.lip_map * self.spread
        return np.asarray(np.linalg.pinv(weighted)[:, 0] * self.spread, np.float32)
