"""Small media files, made here by ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

CLICKS = (0.5, 1.28, 1.7)  # seconds; 1.28 s is frame 32 of 25 fps
SECONDS = 2.0

Encode = Callable[..., Path]


def clicks(rate: int, channels: int = 1, seconds: float = SECONDS) -> np.ndarray:
    """Float32 [n, channels]: faint noise with a 4 ms tone at each of CLICKS."""
    sound = np.random.default_rng(0).normal(0, 0.002, int(seconds * rate))
    tone = 0.8 * np.sin(2 * np.pi * 1500 * np.arange(int(0.004 * rate)) / rate)
    for time in CLICKS:
        start = round(time * rate)
        sound[start : start + len(tone)] += tone
    return np.tile(sound[:, None], (1, channels)).astype(np.float32)


def click_errors(samples: np.ndarray, rate: int) -> np.ndarray:
    """How late, in milliseconds, each click is found."""
    late = []
    for time in CLICKS:
        first = int((time - 0.2) * rate)
        part = np.abs(samples[first : int((time + 0.2) * rate)])
        late.append(1000 * ((first + np.argmax(part > 0.3 * part.max())) / rate - time))
    return np.array(late)


def ffmpeg(*arguments: object, data: bytes | None = None) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=data, check=True, stdin=None if data is not None else subprocess.DEVNULL)


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """encode("a.mp3", "-c:a", "libmp3lame", samples=..., rate=...) -> the path of the encoded sound."""

    def run(name: str, *options: str, samples: np.ndarray, rate: int) -> Path:
        sound = samples[:, None] if samples.ndim == 1 else samples
        source = ("-f", "f32le", "-ar", rate, "-ac", sound.shape[1], "-i", "pipe:0")
        ffmpeg(*source, *options, tmp_path / name, data=sound.astype("<f4").tobytes())
        return tmp_path / name

    return run
