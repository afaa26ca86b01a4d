"""A training set small enough to carry to any GPU machine: H.264 pictures, compressed labels, int8 speech.

    python -m ifmdm_core.training.pack pack --set SET --speech ENCODER --out PACK
    python -m ifmdm_core.training.pack unpack --pack PACK --set SET

Packing needs the whole project; unpacking needs PyTorch, NumPy and OpenCV. The unpacked folder is an ordinary
training set (`dataset.py`) without sound; the speech features of its frames are in `speech.npy`.

    frames.mp4         every crop in row order, H.264, 192 x 192, 25 fps
    labels.npz         meshes as pose + mean shape + int8 components; uint8 blendshapes; int8 speech components
    face_model.npz, index.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ifmdm_core.errors import BadInput
from ifmdm_core.training.dataset import CROP_SIZE, FPS, ClipRecord, TrainingSet, TrainingSetWriter
from ifmdm_core.training.face_parameters import FaceModel

PICTURE_SIZE = 192
SHAPE_COMPONENTS = 40
SPEECH_COMPONENTS = 96
MAX_PACK = 45_000_000
MAX_CARRIED = 60 * 2**20
"""Repository and pack together, bytes."""


@dataclass(frozen=True)
class Quantized:
    """Rows [N, D] as int8 multiples of a step per column."""

    values: np.ndarray
    step: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Quantized:
        step = np.abs(rows).max(0) / 127 + 1e-12
        return cls(np.round(rows / step).astype(np.int8), step.astype(np.float32))

    def restore(self) -> np.ndarray:
        return self.values.astype(np.float32) * self.step


def components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and leading principal directions [count, D] of rows [N, D]."""
    mean = rows.mean(0)
    sample = rows[:: max(1, len(rows) // 20_000)] - mean
    _, vectors = np.linalg.eigh(sample.T @ sample)
    return mean.astype(np.float32), np.ascontiguousarray(vectors[:, ::-1][:, :count].T.astype(np.float32))


def choose_clips(clips: list[ClipRecord], frames: int) -> list[ClipRecord]:
    """Training clips and portraits of at most `frames` rows: all but news first, then evenly spaced news."""
    training = [c for c in clips if c.split == "train"]
    chosen = [c for c in training if c.kind != "news"]
    news = [c for c in training if c.kind == "news"]
    room = frames - sum(c.num_frames for c in chosen)
    average = max(1, sum(c.num_frames for c in news) // max(1, len(news)))
    keep = min(len(news), max(0, room // average))
    spaced = [news[i * len(news) // keep] for i in range(keep)]
    return sorted(chosen + spaced, key=lambda c: c.first)


def compress_meshes(
    landmarks: np.ndarray, valid: np.ndarray, model: FaceModel, clips: list[slice]
) -> dict[str, Any]:
    """Meshes [N, 478, 3] as pose [N, 13], a mean shape per clip and int8 components of the rest."""
    local, rotation, size, shift = model.locals(landmarks)
    local = np.where(valid[:, None, None], local, model.reference)
    means = np.stack(
        [local[rows][valid[rows]].mean(0) if valid[rows].any() else model.reference for rows in clips]
    )
    rest = np.concatenate(
        [(local[rows] - m).reshape(-1, 478 * 3) for rows, m in zip(clips, means, strict=True)]
    )
    _, basis = components(rest, SHAPE_COMPONENTS)
    coded = Quantized.of(rest @ basis.T)
    pose = np.concatenate([rotation.reshape(-1, 9), size[:, None], shift], 1)
    return {
        "pose": np.nan_to_num(pose).astype(np.float16),
        "shapes": means.astype(np.float16),
        "shape_basis": basis.astype(np.float16),
        "shape_values": coded.values,
        "shape_step": coded.step,
    }


def restore_meshes(stored: dict[str, np.ndarray], clips: list[slice]) -> np.ndarray:
    """What `compress_meshes` stored, float32 [N, 478, 3]."""
    rest = Quantized(stored["shape_values"], stored["shape_step"]).restore() @ stored["shape_basis"].astype(
        np.float32
    )
    local = rest.reshape(-1, 478, 3)
    for rows, mean in zip(clips, stored["shapes"].astype(np.float32), strict=True):
        local[rows] += mean
    pose = stored["pose"].astype(np.float32)
    rotation, size, shift = pose[:, :9].reshape(-1, 3, 3), pose[:, 9], pose[:, 10:]
    return size[:, None, None] * np.einsum("nij,nkj->nki", rotation, local) + shift[:, None]


def rows_of(clips: list[ClipRecord]) -> list[slice]:
    """Rows of each clip once they lie back to back."""
    ends = np.cumsum([c.num_frames for c in clips])
    return [slice(int(e) - c.num_frames, int(e)) for e, c in zip(ends, clips, strict=True)]


def pack(
    source: Path, speech: Path, out: Path, *, frames: int = 54_000, repository: Path | None = None
) -> int:
    """Write a pack; returns its size in bytes.

    Pictures get what labels leave of the limit: of a pack, or of a pack and the repository it travels with. Raises
    BadInput when that is too little.
    """
    room = MAX_PACK if repository is None else min(MAX_PACK, MAX_CARRIED - tracked_size(repository))
    data = TrainingSet(source)
    clips = choose_clips(data.clips, frames)
    rows = np.concatenate([np.arange(c.first, c.first + c.num_frames) for c in clips])
    places = rows_of(clips)
    out.mkdir(parents=True, exist_ok=True)
    labels: dict[str, Any] = compress_meshes(
        np.asarray(data.landmarks[rows]), np.asarray(data.valid[rows]),
        FaceModel.load(source / "face_model.npz"), places,
    )  # fmt: skip
    labels["blendshapes"] = np.round(np.asarray(data.blendshapes[rows]).clip(0, 1) * 255).astype(np.uint8)
    labels["valid"] = np.asarray(data.valid[rows])
    labels |= _speech_components(data, clips, speech)
    np.savez_compressed(out / "labels.npz", **labels)
    (out / "face_model.npz").write_bytes((source / "face_model.npz").read_bytes())
    listing = [
        asdict(replace(c, first=place.start, audio_first=0, audio_samples=0))
        for c, place in zip(clips, places, strict=True)
    ]
    (out / "index.json").write_text(json.dumps({"clips": listing}))
    used = sum((out / name).stat().st_size for name in ("labels.npz", "face_model.npz", "index.json"))
    if used < 0.9 * room:
        _encode(data, rows, out / "frames.mp4", bytes_left=int(0.97 * (room - used)))
        used += (out / "frames.mp4").stat().st_size
    size = used
    if size > room or not (out / "frames.mp4").exists():
        raise BadInput(
            f"the pack takes {size / 1e6:.1f} of {room / 1e6:.1f} MB and leaves pictures too little room",
            fix="pack fewer --frames",
        )
    return size


def tracked_size(repository: Path) -> int:
    """Bytes of the files that git tracks in a repository's working tree."""
    import subprocess

    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, check=True, capture_output=True).stdout
    files = [repository / name for name in listed.decode().split("\0") if name]
    return sum(file.stat().st_size for file in files if file.is_file())


def _speech_components(data: TrainingSet, clips: list[ClipRecord], speech: Path) -> dict[str, np.ndarray]:
    """Speech features of every frame, reduced to int8 components; clips without sound are zero."""
    from ifmdm_core.speech import SpeechEncoder

    encoder = SpeechEncoder.load(speech)
    features = np.concatenate(
        [
            np.asarray(encoder.encode(data.audio(c), fps=FPS, num_frames=c.num_frames))
            if c.audio_samples
            else np.zeros((c.num_frames, encoder.dim), np.float32)
            for c in clips
        ]
    )
    mean, basis = components(features, min(SPEECH_COMPONENTS, encoder.dim))
    coded = Quantized.of((features - mean) @ basis.T)
    return {
        "speech_mean": mean, "speech_basis": basis.astype(np.float16),
        "speech_values": coded.values, "speech_step": coded.step,
    }  # fmt: skip


def _encode(data: TrainingSet, rows: np.ndarray, path: Path, bytes_left: int) -> None:
    """All crops into one H.264 file of about `bytes_left` bytes."""
    import ffmpeg
    import imageio_ffmpeg

    rate = int(8 * bytes_left / (len(rows) / FPS))
    side = PICTURE_SIZE
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="bgr24", s=f"{side}x{side}", r=FPS)
    stream = source.output(
        str(path), vcodec="libx264", pix_fmt="yuv420p", preset="medium", g=50, video_bitrate=rate, maxrate=2 * rate,
        bufsize=4 * rate, loglevel="error",
    ).overwrite_output()  # fmt: skip
    process = stream.run_async(cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True)
    for row in rows:
        picture = cv2.imdecode(data.jpeg(int(row)), cv2.IMREAD_COLOR)
        process.stdin.write(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).tobytes())
    process.stdin.close()
    if process.wait():
        raise BadInput(f"{path} could not be encoded", fix="see ffmpeg's message above")


def unpack(source: Path, out: Path) -> None:
    """Make a training set folder of a pack. Raises BadInput when pictures are missing."""
    index = json.loads((source / "index.json").read_text())
    clips = [ClipRecord(**c) for c in index["clips"]]
    places = rows_of(clips)
    with np.load(source / "labels.npz", allow_pickle=False) as archive:
        stored = dict(archive)
    meshes = restore_meshes(stored, places)
    writer, film = TrainingSetWriter(out), cv2.VideoCapture(str(source / "frames.mp4"))
    for clip, rows in zip(clips, places, strict=True):
        jpegs = []
        for _ in range(clip.num_frames):
            found, picture = film.read()
            if not found:
                raise BadInput(f"{source / 'frames.mp4'} ends within {clip.name}", fix="copy the pack again")
            picture = cv2.resize(picture, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_CUBIC)
            jpegs.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        writer.add_clip(
            clip.name, jpegs, meshes[rows], stored["blendshapes"][rows].astype(np.float32) / 255,
            stored["valid"][rows], None, split=clip.split, kind=clip.kind, rights=clip.rights,
            identity=clip.identity, source_fps=clip.source_fps,
        )  # fmt: skip
    film.release()
    values = Quantized(stored["speech_values"], stored["speech_step"]).restore()
    speech = values @ stored["speech_basis"].astype(np.float32) + stored["speech_mean"]
    np.save(out / "speech.npy", speech.astype(np.float16))
    writer.finish(FaceModel.load(source / "face_model.npz"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack a training set, or unpack one.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack", help="make a pack of at most 45 MB")
    one.add_argument("--set", type=Path, required=True)
    one.add_argument("--speech", type=Path, required=True, help="speech encoder folder")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--frames", type=int, default=54_000)
    other = commands.add_parser("unpack", help="make a training set of a pack")
    other.add_argument("--pack", type=Path, required=True)
    other.add_argument("--set", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "unpack":
        unpack(arguments.pack, arguments.set)
        return
    repository = Path(__file__).parents[2]
    size = pack(
        arguments.set, arguments.speech, arguments.out, frames=arguments.frames,
        repository=repository if (repository / ".git").exists() else None,
    )  # fmt: skip
    print(f"{arguments.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
