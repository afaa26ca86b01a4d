"""Video in, by time stamps, and out, as a stream: frames are never all in memory.

decord reads first (fast, but dormant upstream, x86-64 only, and it leaks memory from file to file); PyAV reads what
decord cannot: where it is missing or fails, and files that are stored turned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput
from ifmdm_core.media.audio import Audio, NoSamples, read_audio
from ifmdm_core.media.container import MAX_SECONDS, declared_seconds, known_stream, opened, reason
from ifmdm_core.media.video_writer import VideoWriter

__all__ = ["VideoInfo", "VideoWriter", "probe_video", "read_frames", "read_video_audio"]

MAX_PIXELS = 8192 * 4608  # of one frame
DECORD_BATCH = 16  # frames
BATCH_BYTES = 64 << 20  # of one batch; large frames come in smaller ones
SEEK = 2.0  # seconds: a part that begins later is looked up by its keyframe
LATE = 0.1  # the last frame of a file may begin so early, as a part of its duration
MISSING = 0.95  # a file with fewer than this part of its declared frames is truncated

Frame = npt.NDArray[np.uint8]
Reader = Literal["auto", "decord", "av"]


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header and first frame say. Sizes are those of upright frames; `start` is in seconds."""

    width: int
    height: int
    fps: float
    duration: float | None
    num_frames: int | None
    codec: str
    rotation: int  # degrees counter-clockwise that frames are turned by when shown
    has_audio: bool
    start: float


def probe_video(path: str | os.PathLike[str], name: str | None = None) -> VideoInfo:
    """Look at a video file without reading more than its header and first frame.

    Raises NotFound, Forbidden or BadInput naming the file.
    """
    with _video_stream(path, name) as (container, stream, name):
        try:
            first = next(container.decode(stream), None)
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(name, reason(error)) from error
        if first is None:
            raise _damaged(name, "it has no frames")
        duration = declared_seconds(container, stream)
        turned = first.rotation % 180 != 0
        return VideoInfo(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            fps=float(stream.average_rate or stream.guessed_rate or 25),
            duration=duration,
            num_frames=stream.frames or None,
            codec=stream.codec_context.name,
            rotation=first.rotation,
            has_audio=bool(container.streams.audio),
            start=float(first.time or 0.0),
        )


def read_frames(
    path: str | os.PathLike[str],
    fps: float = 25.0,
    start: float = 0.0,
    end: float | None = None,
    *,
    reader: Reader = "auto",
    info: VideoInfo | None = None,
) -> Iterator[Frame]:
    """Upright RGB frames [H, W, 3] on a regular grid: frame k is the one nearest to `start + k / fps` seconds.

    Times count from the first frame; the last frame lasts as long as its rate says. `info` is what `probe_video`
    said, where the caller has it. Raises BadInput naming the file, also in mid-stream, when it is damaged or holds
    clearly fewer frames than its header says, be they in the part that is read or not.
    """
    info = info or probe_video(path)
    done = 0
    if reader == "decord" or (reader == "auto" and info.rotation == 0):
        try:
            for frame in _decord_frames(path, info, fps, start, end):
                yield frame
                done += 1
            return
        except Exception:  # whatever decord stumbles over, PyAV reads it or says what is wrong
            if reader == "decord":
                raise
    yield from _av_frames(path, info, fps, start, end, done)


def read_video_audio(
    path: str | os.PathLike[str], *, info: VideoInfo | None = None, quiet: bool = False
) -> Audio | None:
    """The sound of a video with sample 0 at the time of the first frame; None where it has no sound stream.

    `info` is what `probe_video` said, where the caller has it. `quiet` also takes silence, and an empty stream for
    none.
    """
    info = info or probe_video(path)
    if not info.has_audio:
        return None
    try:
        return read_audio(path, start=info.start, quiet=quiet)
    except NoSamples:
        if quiet:
            return None
        raise


@contextmanager
def _video_stream(path: str | os.PathLike[str], name: str | None) -> Iterator[tuple[Any, Any, str]]:
    with opened(path, "video", name) as (container, name):
        if not container.streams.video:
            raise BadInput(f"{name}: has no picture in it", fix="give a video file, such as MP4")
        stream = known_stream(container.streams.video[0], "picture", name)
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise BadInput(
                f"{name}: {width}x{height} frames are too large", fix="scale it down", too_large=True
            )
        seconds = declared_seconds(container, stream)
        if seconds is not None and seconds > MAX_SECONDS:
            raise BadInput(
                f"{name}: {seconds / 3600:.1f} hours are too long", fix="cut it into parts", too_large=True
            )
        stream.thread_type = "AUTO"
        yield container, stream, name


def _decord_frames(
    path: str | os.PathLike[str], info: VideoInfo, fps: float, start: float, end: float | None
) -> Iterator[Frame]:
    import decord

    video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    if info.num_frames is not None and len(video) < MISSING * info.num_frames:
        raise RuntimeError("fewer frames than declared")
    stamps = np.asarray(video.get_frame_timestamp(np.arange(len(video))), np.float64)[:, 0]  # [n]
    stamps -= stamps[0]
    if _ends_early(info, stamps[-1]):
        raise RuntimeError("shorter than declared")
    last = stamps[-1] + 0.5 / info.fps
    if end is not None:
        last = min(last, end)
    times = start + np.arange(max(0, math.ceil((last - start) * fps - 1e-6))) / fps  # [m]
    after = np.clip(np.searchsorted(stamps, times), 1, max(1, len(stamps) - 1))
    before = after - 1
    after = np.minimum(after, len(stamps) - 1)
    nearest = np.where(times < (stamps[before] + stamps[after]) / 2, before, after)  # [m]
    batch_size = max(1, min(DECORD_BATCH, BATCH_BYTES // (3 * info.width * info.height)))
    for first in range(0, len(nearest), batch_size):
        rows = nearest[first : first + batch_size]
        unique, where = np.unique(rows, return_inverse=True)
        batch = video.get_batch(unique).asnumpy()  # [b, H, W, 3]
        for row in where:
            yield batch[row].copy()


def _av_frames(
    path: str | os.PathLike[str], info: VideoInfo, fps: float, start: float, end: float | None, skip: int
) -> Iterator[Frame]:
    """The same grid by PyAV, in one pass, from its frame number `skip` on."""
    with _video_stream(path, None) as (container, stream, name):
        k, decoded, previous, time = skip, 0, None, 0.0
        try:
            if start > 0 or end is not None:
                _count_packets(container, stream, info, name)
            if start + skip / fps > SEEK and stream.time_base is not None:
                target = info.start + start + skip / fps - SEEK / 2  # also behind late B-frames
                container.seek(int(target / stream.time_base), stream=stream, backward=True)
                decoded = info.num_frames or 0
            for frame in container.decode(stream):
                decoded += 1
                now = (float(frame.time) if frame.time is not None else time + 1 / info.fps) - info.start
                while previous is not None and start + k / fps < (time + now) / 2:
                    if end is not None and start + k / fps >= end - 1e-6 / fps:
                        return
                    yield _rgb(previous)
                    k += 1
                previous, time = frame, now
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(name, f"{reason(error)} after {time:.2f} s") from error
        if info.num_frames is not None and decoded < MISSING * info.num_frames - 1:
            raise _damaged(name, f"it ends after {decoded} of {info.num_frames} frames")
        if _ends_early(info, time):
            raise _damaged(name, f"it ends after {time:.1f} of {info.duration:.1f} s")
        last = time + 0.5 / info.fps
        if end is not None:
            last = min(last, end)
        while previous is not None and start + k / fps < last - 1e-6 / fps:
            yield _rgb(previous)
            k += 1


def _ends_early(info: VideoInfo, last: float) -> bool:
    """Whether a file that does not say how many frames it holds ends long before the time its header says.

    A still picture at the end may be one long frame, so only a tenth of the time and a second tell.
    """
    return info.num_frames is None and info.duration is not None and last < (1 - LATE) * info.duration - 1.0


def _count_packets(container: Any, stream: Any, info: VideoInfo, name: str) -> None:
    """Refuse a file that ends early although only a part before its end is wanted; leaves it at its beginning."""
    if info.num_frames is not None:
        found = sum(1 for packet in container.demux(stream) if packet.size)
        if found < MISSING * info.num_frames - 1:
            raise _damaged(name, f"it ends after {found} of {info.num_frames} frames")
        container.seek(0)


def _rgb(frame: Any) -> Frame:
    """Upright RGB [H, W, 3] of a decoded frame."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))


def _damaged(name: str, why: str) -> BadInput:
    return BadInput(f"{name}: damaged or truncated video ({why})", fix="download or export it again")
