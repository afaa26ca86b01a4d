"""Builds a training set from raw clips and the reference landmarker's labels.

    python -m ifmdm_core.training.prepare --manifest DATA/manifest.csv --labels LABELS --out SET

The manifest lists file, split, class, kind and speaker of every source (paths relative to itself). Labels come
from `ifmdm_core.training.labels`. A clip whose face is lost in more than a tenth of its frames is left out.
"""

from __future__ import annotations

import argparse
import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ifmdm_core.media.audio import read_audio
from ifmdm_core.media.clip_codec import to_int16
from ifmdm_core.media.face import Square, clip_square, crop
from ifmdm_core.media.video import probe_video, read_video_audio
from ifmdm_core.training.dataset import CROP_SIZE, SAMPLE_RATE, TrainingSetWriter
from ifmdm_core.training.labels import VIDEO_SUFFIXES, label_path, read_labels, timed_frames

JPEG_QUALITY = 90
MIN_FACE_FRACTION = 0.9


@dataclass(frozen=True)
class Source:
    """One line of the manifest."""

    file: str
    split: str
    rights: str
    kind: str
    identity: str

    @property
    def folder(self) -> str:
        """`news`, `grid`, `mixed`, `portraits`, `clips` or `speech`."""
        return self.file.split("/")[1]


@dataclass(frozen=True)
class Prepared:
    """One clip ready to be written."""

    source: Source
    jpegs: list[bytes]
    landmarks: np.ndarray
    blendshapes: np.ndarray
    valid: np.ndarray
    samples: np.ndarray | None
    source_fps: float


def read_manifest(path: Path) -> list[Source]:
    """The manifest's usable sources, in its order."""
    with path.open(newline="") as file:
        return [
            Source(r["file"], r["split"], r["class"], r["kind"], r["speaker"] or Path(r["file"]).stem)
            for r in csv.DictReader(file)
            if r["split"] in ("train", "heldout")
        ]


def decode_audio(path: Path) -> tuple[np.ndarray | None, float]:
    """Sound as int16 mono 16 kHz placed so that sample 0 plays at the first video frame, and the frame rate.

    None when the file has no sound. Audio without video starts at its own first sample; its rate is 0.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        info = probe_video(path)
        audio, rate = read_video_audio(path, info=info, quiet=True), info.fps
    else:
        audio, rate = read_audio(path, quiet=True), 0.0
    return (None if audio is None else to_int16(audio.samples)), rate


def prepare_clip(source: Source, root: Path, labels: Path) -> Prepared | str:
    """Crop one video or portrait; a string says why it was left out."""
    labelled = read_labels(label_path(labels, source.file))
    if labelled is None:
        return "no labels"
    if labelled.valid.mean() < MIN_FACE_FRACTION:
        return f"a face in only {labelled.valid.mean():.0%} of its frames"
    seen = labelled.landmarks[labelled.valid]
    low, high = seen[..., :2].min(1), seen[..., :2].max(1)  # [n, 2]
    square: Square = clip_square(np.concatenate([low, high - low], 1))
    path = root / source.file
    still = source.folder == "portraits"
    jpegs = []
    previous, encoded = None, b""
    for image in timed_frames(path):
        if image is not previous:
            piece = cv2.cvtColor(crop(image, square, CROP_SIZE), cv2.COLOR_RGB2BGR)
            encoded = cv2.imencode(".jpg", piece, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        jpegs.append(encoded)
        previous = image
    corner = np.array([square.cx, square.cy]) - square.side / 2
    landmarks = labelled.landmarks / square.side
    landmarks[..., :2] -= corner / square.side
    samples, rate = (None, 0.0) if still else decode_audio(path)
    if samples is not None:
        samples = samples[: round(len(jpegs) * SAMPLE_RATE / 25)]
    return Prepared(source, jpegs, landmarks, labelled.blendshapes, labelled.valid, samples, rate)


def prepare(manifest: Path, labels: Path, out: Path, *, workers: int = 2) -> dict[str, str]:
    """Write the training set; returns the sources left out with their reasons."""
    sources = read_manifest(manifest)
    clips = [s for s in sources if s.folder in ("news", "grid", "mixed", "portraits", "clips")]
    writer, refused = TrainingSetWriter(out), {}
    kinds = {"news": "news", "grid": "grid", "portraits": "portrait"}
    with ProcessPoolExecutor(workers) as pool:
        results = pool.map(
            prepare_clip, clips, [manifest.parent] * len(clips), [labels] * len(clips), chunksize=8
        )
        for source, result in zip(clips, results, strict=True):
            if isinstance(result, str):
                refused[source.file] = result
                continue
            writer.add_clip(
                source.file, result.jpegs, result.landmarks, result.blendshapes, result.valid, result.samples,
                split=source.split, kind=kinds.get(source.folder, "mixed"), rights=source.rights,
                identity=source.identity, source_fps=result.source_fps,
            )  # fmt: skip
    for source in sources:
        if source.folder == "speech":
            samples, _ = decode_audio(manifest.parent / source.file)
            if samples is not None:
                writer.add_speech(source.file, samples, split=source.split, rights=source.rights)
    writer.finish()
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a training set from raw clips and landmark labels.")
    parser.add_argument(
        "--manifest", type=Path, required=True, help="CSV of file, split, class, kind, speaker"
    )
    parser.add_argument(
        "--labels", type=Path, required=True, help="folder written by ifmdm_core.training.labels"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    refused = prepare(arguments.manifest, arguments.labels, arguments.out, workers=arguments.workers)
    for file, reason in refused.items():
        print(f"left out {file}: {reason}")


if __name__ == "__main__":
    main()
