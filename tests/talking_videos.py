"""Small real videos of a face that moves and speaks: the bundled photo, swayed, with bundled speech as sound."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ifmdm_core.media.audio import audio_from_samples, read_audio
from ifmdm_core.media.image import read_image
from ifmdm_core.media.video_writer import VideoWriter

SAMPLES = Path(__file__).parent.parent / "ifmdm_core" / "assets" / "samples"


def talking_frames(seed: int, count: int, size: int = 192, fps: float = 25.0) -> np.ndarray:
    """uint8 [count, size, size, 3]: the photo's head swaying and its jaw dropping, differently for each seed."""
    photo = read_image(SAMPLES / "astronaut.jpg")
    photo = cv2.resize(photo[:360, 70:430], (size, size), interpolation=cv2.INTER_AREA)
    random = np.random.default_rng(seed)
    tint = random.uniform(0.85, 1.1, 3)
    phase, pace = random.uniform(0, 6.28, 3), random.uniform(0.2, 0.6, 3)
    frames = []
    for k in range(count):
        sway = np.sin(phase + 2 * np.pi * pace * k / fps)
        turn = cv2.getRotationMatrix2D((size / 2, size / 2), 4 * sway[0], 1 + 0.03 * sway[1])
        turn[:, 2] += size * 0.03 * sway[1:]
        frame = cv2.warpAffine(photo, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.clip(frame * tint, 0, 255).astype(np.uint8))
    return np.stack(frames)


def write_talking_video(
    path: Path, seed: int, seconds: float = 2.0, size: int = 192, fps: float = 25.0, sound: bool = True
) -> Path:
    """An MP4 of `talking_frames`, with a piece of the bundled speech that depends on the seed."""
    frames = talking_frames(seed, round(seconds * fps), size, fps)
    audio = None
    if sound:
        speech = read_audio(SAMPLES / "speech.flac").samples
        first = (seed * 7919) % max(1, len(speech) - round(seconds * 16_000))
        audio = audio_from_samples(np.array(speech[first : first + round(seconds * 16_000)]), 16_000)
    with VideoWriter(path, (size, size), fps, audio, preset="ultrafast") as writer:
        writer.write(frames)
    return path
