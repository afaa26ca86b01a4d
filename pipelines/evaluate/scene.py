"""One held-out clip, opened: the real video, its portrait, and the frames that each row shows for it."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ifmdm_core.errors import BadInput
from ifmdm_core.media.face import crop
from ifmdm_core.media.video import probe_video, read_frames, read_video_audio
from ifmdm_core.metrics.stage import FPS, Clip, Landmarks, Stage, load_clip
from pipelines.evaluate.framing import framed
from pipelines.evaluate.rows import Row

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]

BLUR = 0.012
"""Sigma of the blurred row, as a part of the picture's side: three pixels at 256."""


@dataclass(frozen=True)
class Shown:
    """What a row shows."""

    frames: Frames
    """[n, S, S, 3]"""
    seconds: float | None = None
    """that our model took for them, speech to pixels"""
    note: str = ""


@dataclass
class Scene:
    """A clip with everything that rows are made of."""

    path: Path
    clip: Clip
    meshes: Array
    """What the judge sees in the real crops, [T, 478, 3]."""
    portrait: Frames
    """The picture for the model, [head's size, same, 3]."""
    seconds: float
    original: tuple[int, int]
    """Width and height of the real video."""

    @classmethod
    def open(
        cls, path: Path, kind: str, size: int, portrait_size: int, seconds: float, landmarks: Landmarks
    ) -> Scene:
        """Read and look at the real video.

        Args:
            size: of the crops that are judged. portrait_size: of the picture that the model gets.

        Raises:
            BadInput: it cannot be used, see `load_clip`.
        """
        clip = load_clip(path, kind, size, landmarks, seconds)
        info = probe_video(path)
        at = clip.source
        whole = next(itertools.islice(read_frames(str(path), FPS, 0.0, seconds), at, None))
        return cls(
            path, clip, landmarks(clip.crops), crop(whole, clip.square, portrait_size), seconds,
            (info.width, info.height),
        )  # fmt: skip

    def show(self, row: Row, name: str, stage: Stage, landmarks: Landmarks, stranger: Array | None) -> Shown:
        """The frames of one row.

        Args:
            name: of the clip, by which a folder's video is found.
            stranger: another clip's sound, 16 kHz.

        Raises:
            BadInput: a folder's video is damaged; the row needs a stranger and there is none.
        """
        clip = self.clip
        if row.kind == "truth":
            return Shown(clip.crops)
        if row.kind == "copied":
            return Shown(np.repeat(clip.crops[clip.source][None], len(clip.crops), 0))
        if row.kind == "blurred":
            sigma = BLUR * clip.crops.shape[1]
            return Shown(np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip.crops]))
        if row.kind == "folder":
            path = Path(row.videos[name])
            frames, note = framed(
                path, self.seconds, clip.crops.shape[1], clip.square, self.original, self.meshes, landmarks
            )
            return Shown(frames, note=note)
        if row.kind != "shuffled":
            return self._rendered(row, stage, clip.samples)
        if stranger is None:
            raise BadInput("there is no other clip, whose sound it needs", fix="give at least two clips")
        return self._rendered(row, stage, np.resize(stranger, len(clip.samples)))

    def _rendered(self, row: Row, stage: Stage, samples: Array) -> Shown:
        count = len(self.clip.crops)
        identity, hint = stage.subject(self.portrait)
        real = self._model_crops(stage.head.size) if row.kind == "decoder" else None
        began = time.perf_counter()
        with torch.inference_mode():
            if real is None:
                motion = stage.motion(samples, hint, count, row.controls, row.has_hint)
            else:
                motion = stage.true_motion(real)
            frames = stage.frames(identity, motion)
        seconds = time.perf_counter() - began
        return Shown(resized(frames, self.clip.crops.shape[1]), None if real is not None else seconds)

    def _model_crops(self, size: int) -> Frames:
        if size == self.clip.crops.shape[1]:
            return self.clip.crops
        frames = read_frames(str(self.path), FPS, 0.0, self.seconds)
        return np.stack([crop(frame, self.clip.square, size) for frame in frames])


def sound_of(path: Path, seconds: float) -> Array:
    """16 kHz sound of a video's first seconds, [n]; BadInput where it has none."""
    sound = read_video_audio(str(path))
    if sound is None:
        raise BadInput(f"{path.name} has no sound", fix="leave it out")
    return np.array(sound.samples[: round(seconds * 16_000)])


def resized(frames: Frames, size: int) -> Frames:
    """[n, S, S, 3] at another side."""
    if frames.shape[1] == size:
        return frames
    method = cv2.INTER_AREA if size < frames.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (size, size), interpolation=method) for frame in frames])
