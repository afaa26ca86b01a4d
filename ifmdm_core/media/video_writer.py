"""Video out: raw frames through a pipe into ffmpeg, H.264 and AAC in an MP4 that starts playing while it loads."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput, IfmdmError, Unavailable
from ifmdm_core.media.audio import Audio
from ifmdm_core.media.files import published

AAC_RATES = (44_100, 48_000)  # Hz; other rates become 48 kHz, where a packet is half a frame long
STANDARD_TAGS = {"title", "artist", "comment", "copyright", "description", "date", "genre", "encoder"}

Frames = npt.NDArray[np.uint8]


class VideoWriter:
    """Write frames to `path` as they come; a context manager.

    The file appears under its name only when everything has been written; any failure or Ctrl-C leaves nothing.

    Args:
        path: an .mp4 (or .mov, .mkv) file in an existing folder.
        size: (width, height) of the frames; an odd one is padded by one repeated row or column.
        fps: frames per second; written exactly as a fraction.
        audio: sound that starts with the first frame.
        crf: H.264 quality, 0 (lossless) to 51; 18 looks transparent.
        preset: x264's speed preset.
        metadata: container tags.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        fps: float | Fraction,
        audio: Audio | None = None,
        *,
        crf: int = 18,
        preset: str = "veryfast",
        metadata: dict[str, str] | None = None,
    ) -> None:
        if Path(path).suffix.lower() not in (".mp4", ".m4v", ".mov", ".mkv"):
            raise BadInput(f"{path}: cannot write this kind of video", fix="name it .mp4")
        self.path, self.size, self.fps, self.audio = (
            Path(path),
            size,
            Fraction(fps).limit_denominator(100_000),
            audio,
        )
        self.crf, self.preset, self.metadata = crf, preset, dict(metadata or {})
        self.frames = 0
        self._padded = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._exit = ExitStack()
        self._messages: deque[str] = deque(maxlen=20)

    def __enter__(self) -> VideoWriter:
        temporary = self._exit.enter_context(published(self.path))
        try:
            self._process = self._start(temporary)
        except BaseException:
            self._exit.__exit__(*sys.exc_info())
            raise
        # Without a reader, ffmpeg would block once the pipe of its messages is full.
        self._drain = threading.Thread(target=self._read_messages, args=(self._process.stderr,), daemon=True)
        self._drain.start()
        return self

    def write(self, frames: Frames) -> None:
        """Append RGB frames [n, H, W, 3] or one frame [H, W, 3]."""
        width, height = self.size
        batch = frames[None] if frames.ndim == 3 else frames
        if batch.dtype != np.uint8 or batch.shape[1:] != (height, width, 3):
            raise ValueError(
                f"frames must be uint8 [n, {height}, {width}, 3], not {batch.dtype} {batch.shape}"
            )
        if self._padded != self.size:
            pad = ((0, 0), (0, self._padded[1] - height), (0, self._padded[0] - width), (0, 0))
            batch = np.pad(batch, pad, mode="edge")
        try:
            self._process.stdin.write(np.ascontiguousarray(batch).data)
        except BrokenPipeError as error:
            self._process.wait()
            self._drain.join(timeout=5)
            raise self._failure() from error
        self.frames += len(batch)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._process.kill()
        except BaseException:
            self._process.kill()
            self._close_pipes()
            self._exit.__exit__(*sys.exc_info())
            raise
        self._close_pipes()
        self._exit.__exit__(kind, error, trace)

    def _start(self, temporary: Path) -> Any:
        import ffmpeg
        import imageio_ffmpeg

        width, height = self._padded
        rate = f"{self.fps.numerator}/{self.fps.denominator}"
        video = ffmpeg.input(
            "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate
        )
        # The matrix is named on both sides; a player must not guess it from the size.
        video = video.filter("scale", out_color_matrix="bt709", out_range="tv", flags="bicubic+accurate_rnd")
        video = video.filter("format", "yuv420p")
        streams, options = [video], {
            "c:v": "libx264", "crf": self.crf, "preset": self.preset, "fps_mode": "passthrough",
            "colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv",
        }  # fmt: skip
        if self.audio is not None:
            native = self.audio.native
            streams.append(
                ffmpeg.input(f"file:{native.path}", format="s16le", ar=native.rate, ac=native.channels).audio
            )
            aac_rate = native.rate if native.rate in AAC_RATES else 48_000
            options |= {"c:a": "aac", "b:a": f"{96 * native.channels}k", "ar": aac_rate}
        flags = "+faststart" + ("" if set(self.metadata) <= STANDARD_TAGS else "+use_metadata_tags")
        if self.path.suffix.lower() != ".mkv":
            options["movflags"] = flags
        tags = {f"metadata:g:{n}": f"{key}={value}" for n, (key, value) in enumerate(self.metadata.items())}
        command = ffmpeg.output(*streams, f"file:{temporary}", **options, **tags).global_args(
            "-hide_banner", "-nostats", "-loglevel", "error", "-y"
        )
        try:
            return command.run_async(cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"ffmpeg does not start ({error})", fix="pip install imageio-ffmpeg") from error

    def _finish(self) -> None:
        if self.frames == 0:
            raise ValueError("no frames were written")
        with suppress(BrokenPipeError):  # the exit status tells why
            self._process.stdin.close()
        if self._process.wait() != 0:
            self._drain.join(timeout=5)
            raise self._failure()

    def _failure(self) -> IfmdmError:
        said = " / ".join(self._messages)[-400:] or f"exit status {self._process.returncode}"
        if "No space left" in said:
            return Unavailable(
                f"{self.path}: no space left to write it", fix="free some space or choose another disk"
            )
        return IfmdmError(f"{self.path}: ffmpeg could not write it ({said})")

    def _read_messages(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._messages.append(line.decode(errors="replace").strip())

    def _close_pipes(self) -> None:
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._drain.join(timeout=5)
        self._process.stderr.close()
