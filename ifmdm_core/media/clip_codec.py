"""A clip as bytes: square frames as H.264 in an MP4, sound as FLAC, both made in memory.

Equal input gives equal bytes in any process: one encoder thread, and nothing in the file that tells the time or
the writer.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ifmdm_core.errors import BadInput
from ifmdm_core.media.container import opened, reason

RATE = 16_000  # Hz of stored sound
PRESET = "veryfast"
BITEXACT = {"fflags": "+bitexact"}

Frame = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]


def encode_clip(frames: Iterable[Frame], fps: int = 25, crf: int = 18, keyint: int = 12) -> bytes:
    """H.264 (yuv420p, BT.709) in an MP4 of uint8 RGB frames [S, S, 3], S even, all of one size.

    Args:
        fps: frames per second.
        crf: x264's quality, 0 (lossless) to 51; 18 looks transparent.
        keyint: frames from one keyframe to the next: what `decode_clip` decodes at most to reach any frame.

    Raises ValueError where there is no frame or one has another shape.
    """
    file, to_video = io.BytesIO(), VideoReformatter()
    with av.open(file, "w", format="mp4", options=BITEXACT) as container:
        stream: Any = None
        shape: tuple[int, ...] = ()
        for number, image in enumerate(frames):
            if stream is None:
                shape = image.shape
                if image.ndim != 3 or shape[2] != 3 or shape[0] % 2 or shape[1] % 2:
                    raise ValueError(f"frames must be [S, S, 3] with an even S, not {list(shape)}")
                stream = _video_stream(container, shape, fps, crf, keyint)
            if image.shape != shape:
                raise ValueError(f"frame {number} is {list(image.shape)}, the ones before {list(shape)}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame = to_video.reformat(
                frame,
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs at least one frame")
        container.mux(stream.encode(None))
    return file.getvalue()


def _video_stream(container: Any, shape: tuple[int, ...], fps: int, crf: int, keyint: int) -> Any:
    options = {"crf": str(crf), "preset": PRESET, "g": str(keyint), "sc_threshold": "0", "flags": "+bitexact"}
    # x264's macroblock tree reads memory that nobody wrote: equal frames gave other bytes in another process.
    options["mbtree"] = "0"
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.color_range, context.colorspace = 1, 1  # limited range, BT.709
    context.color_primaries, context.color_trc = 1, 1
    context.time_base = Fraction(1, fps)
    return stream


def decode_clip(data: bytes, rows: Sequence[int] | None = None, name: str = "the clip") -> Frame:
    """Frames uint8 [n, S, S, 3] of a clip that `encode_clip` wrote: all, or the ones numbered `rows`, in that order.

    Few rows are reached from the keyframes before them. Raises BadInput naming the clip when it is damaged,
    IndexError for a row that it does not have.
    """
    with opened(data, "video", name) as (container, name):
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        count = stream.frames
        wanted = list(range(count)) if rows is None else [int(row) for row in rows]
        if any(not 0 <= row < count for row in wanted):
            raise IndexError(f"{name}: rows {wanted} of a clip of {count} frames")
        height, width = stream.codec_context.height, stream.codec_context.width
        images = np.empty((len(wanted), height, width, 3), np.uint8)
        to_rgb, places = VideoReformatter(), dict[int, list[int]]()
        for place, row in enumerate(wanted):
            places.setdefault(row, []).append(place)
        try:
            for row, frame in _frames_at(container, stream, sorted(places)):
                picture = to_rgb.reformat(frame, format="rgb24", src_colorspace=Colorspace.ITU709, threads=1)
                images[places[row]] = picture.to_ndarray()
                del places[row]
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(name, reason(error)) from error
        if places:
            raise _damaged(name, f"frame {min(places)} of {count} is missing")
    return images


def _frames_at(container: Any, stream: Any, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """The decoded frames with these numbers, ascending; seeks where the next one lies beyond another keyframe."""
    step = Fraction(1) / stream.average_rate / stream.time_base  # time base units per frame
    keyframes = [round(entry.timestamp / step) for entry in stream.index_entries if entry.is_keyframe]
    at = -1
    decoded: Iterator[Any] = iter(())
    for row in rows:
        if at < 0 or any(at < key <= row for key in keyframes if key > at + 1):
            container.seek(round(row * step), stream=stream, backward=True)
            decoded = container.decode(stream)
        for frame in decoded:
            at = round(frame.pts / step)
            if at == row:
                yield row, frame
            if at >= row:
                break


def encode_sound(samples: npt.NDArray[Any]) -> bytes:
    """FLAC, 16 kHz mono 16 bit, of samples [n], n > 0: int16, or float in [-1, 1] (louder ones are clipped)."""
    sound = np.asarray(samples)
    if sound.ndim != 1 or not len(sound):
        raise ValueError(f"samples must be [n] with n above 0, not {list(sound.shape)}")
    if sound.dtype != np.int16:
        sound = to_int16(sound)
    file = io.BytesIO()
    with av.open(file, "w", format="flac", options=BITEXACT) as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono", options={"flags": "+bitexact"})
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_sound(data: bytes, name: str = "the clip's sound") -> Samples:
    """Float32 samples [n] at 16 kHz in [-1, 1) of what `encode_sound` wrote, exactly; BadInput when damaged."""
    with opened(data, "audio", name) as (container, name):
        stream = container.streams.audio[0]
        try:
            pieces = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(name, reason(error)) from error
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
        if stream.duration is not None and len(samples) != round(stream.duration * stream.time_base * RATE):
            raise _damaged(name, f"{len(samples)} samples")
    return samples.astype(np.float32) / np.float32(32768)


def to_int16(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Float samples in [-1, 1] as int16, rounded."""
    return np.clip(np.rint(np.asarray(samples, np.float64) * 32768), -32768, 32767).astype(np.int16)


def _damaged(name: str, why: str) -> BadInput:
    return BadInput(f"{name}: damaged ({why})", fix="check the shard: ifmdm data verify")
