"""A folder of real video files as bad as they come, between good neighbours, with what must become of each.

Everything is made of the bundled photo and speech; nothing is mocked.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tests.talking_videos import SAMPLES, talking_frames, write_talking_video

KEPT, DUPLICATE, NEAR_DUPLICATE, IGNORED = "kept", "duplicate", "near-duplicate", "ignored"
"""Becomes clips; is the same bytes as another; becomes clips of which the selection drops one; is no source."""

GOOD = {"good 1.mp4": 1.2, "good 2.mp4": 1.6, "good 3.mp4": 2.0, "deep/er/good 4.mp4": 2.4}
"""Plain neighbours and their seconds."""


def make_poisoned_set(folder: Path) -> dict[str, str]:
    """Write the set; the expectation for each source, by its (escaped) name: one of the words above or
    `quarantined:REASON`."""
    folder.mkdir(parents=True, exist_ok=True)
    expected = dict.fromkeys(GOOD, KEPT)
    for seed, (name, seconds) in enumerate(GOOD.items(), 1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_talking_video(folder / name, seed, seconds)

    def talking(name: str | bytes, seed: int, shown: str | None = None, **options: float | bool) -> None:
        """One that is fine but for its name or its kind."""
        made = write_talking_video(folder / "made.mp4", seed, 1.4, **options)
        made.rename(folder / os.fsdecode(name))
        expected[shown or os.fsdecode(name)] = KEPT

    talking("no sound.mp4", 11, sound=False)
    talking("thirty frames a second.mp4", 12, fps=30.0)
    talking("a video.txt.mov", 13)
    talking("a video.bin", 14)
    talking("no suffix", 15)
    talking("  spaces and ünïcode 中文 😀 .mp4", 16)
    talking(b"caf\xe9.mp4", 17, shown="caf\\xe9.mp4")
    talking("back\\slash.mp4", 18, shown="back\\x5cslash.mp4")

    talking("rotated.mp4", 19)
    _turn(folder / "rotated.mp4")
    _write(folder / "uneven times.mp4", talking_frames(20, 40), _uneven(40))
    _write(folder / "4k.mp4", _enlarged(talking_frames(21, 26)), range(26))
    expected |= {"uneven times.mp4": KEPT, "4k.mp4": KEPT}

    shutil.copy(folder / "good 1.mp4", folder / "zz copy of good 1.mp4")
    expected["zz copy of good 1.mp4"] = DUPLICATE
    _encode_again(folder / "good 3.mp4", folder / "good 3 smaller.mp4")
    expected["good 3 smaller.mp4"] = NEAR_DUPLICATE

    whole = write_talking_video(folder / "made.mp4", 22, 2.0).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) * 6 // 10])  # its index comes first
    _write(folder / "made.mp4", talking_frames(23, 40), range(40))
    whole = (folder / "made.mp4").read_bytes()
    (folder / "truncated before its index.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "made.mp4").unlink()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("This is no video.\n" * 200)
    shutil.copy(SAMPLES / "astronaut.jpg", folder / "photo.jpg")
    shutil.copy(SAMPLES / "speech.flac", folder / "sound only.flac")
    _write(folder / "no face.mp4", _scenery(40), range(40))
    _write(folder / "one frame a second.mp4", talking_frames(24, 30), range(0, 30 * 25, 25), rate=1)
    write_talking_video(folder / "too short.mp4", 25, 0.4)
    expected |= {
        "truncated.mp4": "quarantined:damaged",
        "truncated before its index.mp4": "quarantined:unreadable",
        "empty.mp4": "quarantined:empty",
        "text.mp4": "quarantined:unreadable",
        "photo.jpg": "quarantined:unreadable",
        "sound only.flac": "quarantined:no picture",
        "no face.mp4": "quarantined:no face",
        "one frame a second.mp4": "quarantined:too slow",
        "too short.mp4": "quarantined:too short",
    }
    shutil.copy(folder / "good 2.mp4", folder / ".hidden.mp4")
    (folder / "captions.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    expected |= {".hidden.mp4": IGNORED, "captions.srt": IGNORED}
    return expected


def _write(path: Path, frames: Iterable[np.ndarray], ticks: range | list[int], rate: int = 25) -> None:
    """H.264 without sound, frame k [H, W, 3] at `ticks[k]` / 25 seconds; the index is at the end of the file."""
    frames = iter(frames)
    first = next(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "20"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 25)
        stream.codec_context.time_base = Fraction(1, 25)
        for tick, image in zip(ticks, itertools.chain([first], frames), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _uneven(count: int) -> list[int]:
    """Ticks of 1, 1, 2, 1, 3, ... twenty-fifths of a second."""
    return [0, *np.cumsum(np.resize([1, 1, 2, 1, 3], count - 1)).tolist()]


def _enlarged(frames: np.ndarray) -> Iterator[np.ndarray]:
    """Each picture in the middle of a 4K frame, [2160, 3840, 3]."""
    for frame in frames:
        large = cv2.resize(frame, (2160, 2160), interpolation=cv2.INTER_LINEAR)
        yield np.pad(large, ((0, 0), (840, 840), (0, 0)), constant_values=90)


def _scenery(count: int) -> np.ndarray:
    """[n, 192, 192, 3]: coloured stripes that drift."""
    ramp = np.linspace(0, 12, 192)
    moved = ramp[None, None, :] + 0.1 * np.arange(count)[:, None, None] + ramp[None, :, None] * 0.3
    bands = [np.broadcast_to(np.sin(moved + shift), (count, 192, 192)) for shift in (0.0, 1.0, 2.0)]
    return (127 + 120 * np.stack(bands, -1)).astype(np.uint8)


def _turn(path: Path) -> None:
    """The same picture, stored lying on its side with a note to turn it when shown."""
    lying = path.with_name("lying.mp4")
    _ffmpeg("-i", path, "-vf", "transpose=1", "-preset", "ultrafast", "-c:a", "copy", lying)
    _ffmpeg("-display_rotation", "90", "-i", lying, "-c", "copy", path)
    lying.unlink()


def _encode_again(source: Path, target: Path) -> None:
    """At three quarters of the size and a low bit rate."""
    _ffmpeg("-i", source, "-vf", "scale=144:144", "-crf", "28", "-preset", "veryfast", "-c:a", "aac", target)


def _ffmpeg(*arguments: str | Path) -> None:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)
