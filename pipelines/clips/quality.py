"""What a clip is worth, in numbers: nothing is refused by them here, thresholds live in selections."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FACE = 128  # pixels: side that faces are compared at
SILENT = -100.0  # dBFS: what digital silence is noted as
QUIET = -50.0  # dBFS: below it nothing is speech
OVER_NOISE = 12.0  # dB over the noise floor is speech ...
UNDER_LOUD = (
    20.0  # ... and so is what is at most this much below the loud frames: fluent speech has no pauses
)
STEADY = 6.0  # dB from the floor to the loud frames: hum and noise vary less, speech more

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SoundQuality:
    """`loudness` in dBFS (RMS; -100 for silence), `speech_share` of the frames, 0..1."""

    loudness: float
    speech_share: float


def face_look(image: Image, box: Floats) -> tuple[float, float]:
    """Sharpness and brightness of the face in box (x, y, w, h), pixels of image [H, W, 3] RGB.

    Sharpness is the variance of the Laplacian of the grey face at 128x128, so it says how much detail there is for
    the face's size; brightness is the mean luma, 0..1.
    """
    height, width = image.shape[:2]
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    if right - left < 2 or bottom - top < 2:
        return 0.0, 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    method = cv2.INTER_AREA if min(grey.shape) > FACE else cv2.INTER_LINEAR
    face = cv2.resize(grey, (FACE, FACE), interpolation=method)
    return float(cv2.Laplacian(face, cv2.CV_32F).var()), float(face.mean()) / 255


def head_motion(boxes: Floats) -> float:
    """How far the face moves about: the deviation of its centre over a clip's boxes [n, 4], in face sizes."""
    centres = boxes[:, :2] + boxes[:, 2:] / 2  # [n, 2]
    return float(np.sqrt(centres.var(0).sum()) / np.median(boxes[:, 2:].max(1)))


def sound_quality(samples: Samples, num_frames: int) -> SoundQuality:
    """Loudness and the part of frames with speech, of a clip's sound [n] in [-1, 1] under `num_frames` frames.

    A frame holds speech where it is louder than -50 dBFS and either 12 dB over the quietest tenth or at most 20 dB
    below the loudest twentieth; where these two are within 6 dB of each other there is only steady noise. This is
    energy, not understanding: music counts as well.
    """
    parts = np.array_split(samples.astype(np.float64), num_frames)
    levels = np.array([_decibels(float(np.mean(part**2)) if len(part) else 0.0) for part in parts])
    floor, loud = np.percentile(levels, [10, 95])
    least = max(QUIET, min(floor + OVER_NOISE, loud - UNDER_LOUD))
    share = float((levels > least).mean()) if loud - floor > STEADY else 0.0
    return SoundQuality(_decibels(float(np.mean(samples.astype(np.float64) ** 2))), share)


def _decibels(power: float) -> float:
    return max(SILENT, 10 * float(np.log10(max(power, 1e-12))))
