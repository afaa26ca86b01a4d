"""Labels raw clips with a reference face landmarker (a mediapipe Tasks model file).

    python -m ifmdm_core.training.labels --manifest DATA/manifest.csv --model face_landmarker.task --out LABELS

Frames are taken at 25 fps, nearest in time. The landmarker runs in image mode: its video mode smooths points
over time, which would delay the lips. Resumable; split over processes with `--part i/n`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ifmdm_core.media.image import read_image
from ifmdm_core.media.video import read_frames

FPS = 25
LONGEST_SIDE = 1280
VIDEO_SUFFIXES = (".mp4", ".mpg", ".avi", ".mov", ".webm", ".mkv")


@dataclass(frozen=True)
class Labels:
    """Labels of one source at 25 fps, in source pixels."""

    landmarks: np.ndarray
    """float32 [n, 478, 3]; z in the units of x."""
    blendshapes: np.ndarray
    """float32 [n, 52]"""
    valid: np.ndarray
    """bool [n]: a face was found"""


def label_path(folder: Path, file: str) -> Path:
    """Where the labels of manifest entry `file` lie."""
    return folder / (file.replace("/", "__") + ".npz")


def read_labels(path: Path) -> Labels | None:
    """Stored labels, or None when this source was not labelled."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return Labels(stored["lm"], stored["bs"], stored["valid"])


def timed_frames(path: Path, fps: int = FPS) -> Iterator[np.ndarray]:
    """RGB frames uint8 [H, W, 3] of a video at k / fps, nearest in time (the same object twice = a repeat).

    A still picture yields itself once.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield read_image(path)
        return
    previous = None
    for frame in read_frames(path, fps):
        if previous is None or not np.array_equal(frame, previous):
            previous = frame
        yield previous


class Landmarker:
    """The reference landmarker: 478 points, 52 blendshape scores."""

    def __init__(self, model: Path) -> None:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            output_face_blendshapes=True,
            num_faces=1,
            running_mode=vision.RunningMode.IMAGE,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Points float32 [478, 3] in pixels and scores [52] of an RGB picture, or None without a face."""
        import cv2
        import mediapipe as mp

        height, width = image.shape[:2]
        shrink = min(1.0, LONGEST_SIDE / max(height, width))
        small = (
            cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            if shrink < 1
            else image
        )
        found = self._landmarker.detect(
            mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(small))
        )
        if not found.face_landmarks:
            return None
        points = [(p.x * width, p.y * height, p.z * width) for p in found.face_landmarks[0]]
        scores = [b.score for b in found.face_blendshapes[0]]
        return np.array(points, np.float32), np.array(scores, np.float32)

    def label(self, path: Path) -> Labels:
        """Label every 25 fps frame of a video, or a picture."""
        rows: list[tuple[np.ndarray, np.ndarray] | None] = []
        previous = None
        for image in timed_frames(path):
            rows.append(rows[-1] if image is previous else self(image))
            previous = image
        nothing = (np.zeros((478, 3), np.float32), np.zeros(52, np.float32))
        filled = [row or nothing for row in rows]
        return Labels(
            np.stack([row[0] for row in filled]),
            np.stack([row[1] for row in filled]),
            np.array([row is not None for row in rows]),
        )


def main() -> None:
    from tqdm import tqdm

    from ifmdm_core.training.prepare import read_manifest

    parser = argparse.ArgumentParser(description="Label clips with a reference face landmarker.")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="a mediapipe face_landmarker.task file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="i/n: label every n-th source, from the i-th")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    landmarker = Landmarker(arguments.model)
    sources = [s for s in read_manifest(arguments.manifest) if s.folder != "speech"]
    for source in tqdm(sources[part::parts], disable=None):
        target = label_path(arguments.out, source.file)
        if target.exists():
            continue
        labels = landmarker.label(arguments.manifest.parent / source.file)
        draft = target.with_suffix(".part.npz")
        np.savez(draft, lm=labels.landmarks, bs=labels.blendshapes, valid=labels.valid)
        os.replace(draft, target)


if __name__ == "__main__":
    main()
