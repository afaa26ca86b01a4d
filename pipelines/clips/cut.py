"""One planned span of a video -> face-cropped clips with their measures, or the reason why there are none.

Frames are looked at once for shots and faces, then cropped and encoded; they stay in memory in between where they
are few and small, else the span is decoded again. The same file, span and parameters give the same bytes in any
process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput
from ifmdm_core.media.clip_codec import encode_clip, encode_sound, to_int16
from ifmdm_core.media.decoder_process import DecoderCrash, DecoderProcess, frame_scale
from ifmdm_core.media.face import clip_square, crop
from ifmdm_core.media.face_track import FaceFollower, Run, equal_parts, main_runs
from ifmdm_core.media.image import read_image
from ifmdm_core.media.shots import Signature, shot_starts, signature, suspicious
from pipelines.clips.fingerprint import fingerprint
from pipelines.clips.probe import content_fault
from pipelines.clips.quality import face_look, head_motion, sound_quality
from pipelines.clips.sync_offset import FPS as SYNC_FPS
from pipelines.clips.sync_offset import judged_frames, load_scorer, sync_offset
from pipelines.dataset.parameters import ClipParameters

KEPT = 256 << 20  # bytes of frames that are kept between looking and cropping

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CutClip:
    """One clip. Boxes are in pixels of the upright source; times in seconds from its first frame."""

    start: float
    end: float
    num_frames: int
    size: int
    face_box: tuple[float, float, float, float]
    crop_box: tuple[float, float, float]
    face_size: float
    sharpness: float
    brightness: float
    head_motion: float
    speech_share: float | None
    loudness: float | None
    av_offset: float | None
    av_confidence: float | None
    fingerprint: bytes
    video: bytes
    audio: bytes | None


@dataclass(frozen=True)
class Fault:
    """Why a span gave no clip: `reason` is short and stable, `detail` one line that names no path."""

    reason: str
    detail: str


def cut_span(
    path: Path, start: float, end: float, parameters: ClipParameters, decoder: DecoderProcess
) -> tuple[list[CutClip], list[Fault]]:
    """The clips between two times of a video, in order, and what is wrong where there are none.

    Content faults are returned. Raises NotFound, Forbidden or OSError where the file cannot be read.
    """
    for again in (True, False):
        try:
            with _one_thread():
                return _cut(path, start, end, parameters, decoder), []
        except _Refused as error:
            return [], [error.fault]
        except DecoderCrash as error:
            # A kill from outside or lack of memory may not cost a good video: only two crashes are its own.
            if not again:
                return [], [Fault("decoder crashed", _without_path(error, path))]
        except BadInput as error:
            return [], [Fault(content_fault(error), _without_path(error, path))]
    raise AssertionError("unreachable")


class _Refused(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(reason, detail)


@dataclass(frozen=True)
class _Scan:
    """What the first look at a span found; `frames` where they could be kept."""

    num_frames: int
    shots: list[int]
    faces: FaceFollower
    frames: list[Image] | None


def _cut(
    path: Path, start: float, end: float, parameters: ClipParameters, decoder: DecoderProcess
) -> list[CutClip]:
    fps = parameters.fps
    info = decoder.probe(path)
    if info.fps < parameters.min_fps:
        raise _Refused(
            "too slow", f"{info.fps:.3g} frames per second; at least {parameters.min_fps:g} are needed"
        )
    scan = _scan(decoder.frames(path, fps, start, end), parameters)
    runs = main_runs(scan.faces.tracks, scan.shots, scan.num_frames, parameters.track_step)
    parts = [
        part
        for run in runs
        if run.num_frames >= parameters.min_frames
        for part in equal_parts(run, parameters.max_frames)
    ]
    if scan.num_frames < parameters.min_frames:
        raise _Refused("too short", f"{scan.num_frames} frames; at least {parameters.min_frames} make a clip")
    if not runs:
        raise _Refused("no face", f"no face in {scan.num_frames} frames")
    if not parts:
        longest = max(run.num_frames for run in runs)
        raise _Refused(
            "too short",
            f"a face is seen for {longest} frames at most; at least {parameters.min_frames} make a clip",
        )
    sound = decoder.sound(path, start, start + scan.num_frames / fps) if info.has_audio else None
    frames = scan.frames
    images = (
        iter(frames) if frames is not None else decoder.frames(path, fps, start, start + parts[-1].last / fps)
    )
    clips, scale, at = [], frame_scale(info), 0
    for part in parts:
        whole = itertools.islice(images, part.first - at, part.last - at)
        clips.append(_clip(whole, part, sound, start, scale, parameters))
        at = part.last
    for _ in images:  # a decoder that is not heard out would have to be ended
        pass
    return clips


def _scan(images: Iterator[Image], parameters: ClipParameters) -> _Scan:
    faces, signatures = FaceFollower(parameters.fps), list[Signature]()
    kept: list[Image] | None = []
    size = 0
    for k, image in enumerate(images):
        signatures.append(signature(image))
        fresh = k > 0 and suspicious(signatures[-2], signatures[-1])
        if fresh or k % parameters.track_step == 0:
            faces.look(k, image, fresh)
        size += image.nbytes
        if kept is not None:
            kept.append(image)
            if size > KEPT:
                kept = None
    return _Scan(len(signatures), shot_starts(signatures), faces, kept)


def _clip(
    images: Iterator[Image],
    run: Run,
    sound: Samples | None,
    start: float,
    scale: float,
    parameters: ClipParameters,
) -> CutClip:
    """Crop, measure and encode the frames of one run."""
    count, fps = run.num_frames, parameters.fps
    boxes = run.boxes()  # [n, 4]
    square = clip_square(boxes)
    size = min(parameters.size, int(square.side) - int(square.side) % 2)
    zoom = size / square.side
    inside = np.concatenate([boxes[:, :2] - (square.x0, square.y0), boxes[:, 2:]], 1) * zoom  # in the crop
    looked = {look.frame - run.first for look in run.looks}
    shown = {0, count // 2, count - 1}
    judged = judged_frames(count) if sound is not None and fps == SYNC_FPS else range(0)
    samples = None if sound is None else _samples(sound, run, parameters)
    faces: list[tuple[float, float]] = []
    kept: dict[int, Image] = {}

    def crops() -> Iterator[Image]:
        for k, image in enumerate(images):
            piece = crop(image, square, size)
            if k in looked:
                faces.append(face_look(piece, inside[k]))
            if k in shown or k in judged:
                kept[k] = piece
            yield piece

    video = encode_clip(crops(), fps, parameters.crf, parameters.keyint)
    landmarks = run.landmarks() if judged else None
    offset = None
    if landmarks is not None and samples is not None:
        window = slice(judged.start, judged.stop)
        heard = samples[judged.start * len(samples) // count : judged.stop * len(samples) // count]
        mesh = (landmarks[window] - (square.x0, square.y0)) * zoom
        offset = sync_offset([kept[k] for k in judged], mesh, heard)
    quality = None if samples is None else sound_quality(samples, count)
    sharpness, brightness = np.median(np.array(faces or [(0.0, 0.0)]), 0)
    x, y, w, h = np.median(boxes, 0) / scale
    return CutClip(
        start=round(start + run.first / fps, 6),
        end=round(start + run.last / fps, 6),
        num_frames=count,
        size=size,
        face_box=(_tidy(x), _tidy(y), _tidy(w), _tidy(h)),
        crop_box=(_tidy(square.x0 / scale), _tidy(square.y0 / scale), _tidy(square.side / scale)),
        face_size=_tidy(np.median(boxes[:, 2:].max(1)) / scale),
        sharpness=_tidy(sharpness),
        brightness=_tidy(brightness),
        head_motion=_tidy(head_motion(boxes)),
        speech_share=_tidy(quality.speech_share) if quality else None,
        loudness=_tidy(quality.loudness) if quality else None,
        av_offset=_tidy(offset.seconds) if offset else None,
        av_confidence=_tidy(offset.confidence) if offset else None,
        fingerprint=fingerprint([kept[k] for k in (0, count // 2, count - 1)], samples),
        video=video,
        audio=None if samples is None else encode_sound(samples),
    )


def _samples(sound: Samples, run: Run, parameters: ClipParameters) -> Samples:
    """The sound [n] under a run's frames, as 16 bit hold it; where it has ended there is silence."""
    rate = parameters.sample_rate
    first, last = (round(k * rate / parameters.fps) for k in (run.first, run.last))
    part = sound[first:last]
    padded = np.pad(part, (0, last - first - len(part)))
    return to_int16(padded).astype(np.float32) / np.float32(32768)


def _tidy(value: float | np.floating) -> float:
    """Four digits after the point: the last bits of a float may depend on the processor."""
    return round(float(value), 4)


def _without_path(error: BadInput, path: Path) -> str:
    """What is wrong, without where the file lay just now: the record must not depend on that."""
    return error.what.replace(f"{path}: ", "").replace(str(path), "the video")


def warm_up() -> None:
    """Load the face finder and the sync scorer and find the bundled photo's face: first calls are slow."""
    with _one_thread():
        photo = read_image(str(files("ifmdm_core") / "assets" / "samples" / "astronaut.jpg"))
        follower = FaceFollower(SYNC_FPS)
        for k in range(2):  # searched, then followed
            follower.look(k, photo)
        load_scorer()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch and OpenCV on one thread, for equal results and because workers fill the cores already."""
    from ifmdm_core.one_thread import one_thread

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with one_thread():
            yield
    finally:
        cv2.setNumThreads(threads)
