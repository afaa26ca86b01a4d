"""Opening sound and video files through PyAV without letting them reach anything but themselves.

Playlists (HLS, concat, DASH) and image sequences may name other local files or addresses, so both the protocols
and the container formats are white-listed, and sizes are checked from the headers before anything is decoded.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from ifmdm_core.errors import BadInput
from ifmdm_core.media.files import input_file

FORMATS = (
    "wav,w64,aiff,au,caf,flac,mp3,aac,ac3,eac3,amr,amrnb,amrwb,ogg,wv,tta,asf,"
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,dv,gxf,mxf,nut,ivf,h264,hevc,m4v"
)
MAX_SECONDS = 6 * 3600.0

Source = str | os.PathLike[str] | bytes


@contextmanager
def opened(source: Source, kind: str, name: str | None = None) -> Iterator[tuple[Any, str]]:
    """An open PyAV input container and the name to use in messages; `kind` is "audio" or "video".

    Raises NotFound, Forbidden or BadInput naming the file.
    """
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    target: str | io.BytesIO
    if isinstance(source, bytes):
        name = name or f"the {kind}"
        if not source:
            raise BadInput(f"{name}: is empty (0 bytes)", fix=f"give a complete {kind} file")
        target = io.BytesIO(source)
        options.pop("protocol_whitelist")  # there is no protocol: bytes are read through Python
    else:
        path = input_file(source, kind)
        name = name or str(path)
        target = f"file:{Path(path).resolve()}"
    try:
        container = av.open(target, options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise BadInput(
            f"{name}: is not {kind}, or is damaged ({reason(error)})",
            fix="give a file that plays in a media player, such as "
            + ("WAV or MP3" if kind == "audio" else "MP4"),
        ) from error
    with container:
        yield container, name


def known_stream(stream: Any, kind: str, name: str) -> Any:
    """The stream, if there is a decoder for it."""
    if stream.codec_context is None:
        raise BadInput(
            f"{name}: its {kind} is in a format that is not known", fix="convert it to H.264 and AAC"
        )
    return stream


def reason(error: BaseException) -> str:
    """ffmpeg's own words, without the path it repeats."""
    return str(getattr(error, "strerror", None) or error).split(":")[0].strip() or type(error).__name__


def declared_seconds(container: Any, stream: Any) -> float | None:
    """How long the header says the stream lasts; None where the container does not say or only guesses."""
    if stream.duration is not None and stream.time_base is not None and not _guesses(container):
        return float(stream.duration * stream.time_base)
    if "DURATION" in stream.metadata:  # Matroska: "00:01:02.003000000"
        try:
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        except ValueError:
            return None
    if container.duration is not None and len(container.streams) == 1 and not _guesses(container):
        return float(container.duration) / av.time_base
    return None


def wav_shortfall(source: Source) -> float:
    """How many times more sound a WAV file's header promises than the file holds (1: all there, or no WAV).

    ffmpeg believes the file's size instead. A size near 2 or 4 GB means that the writer did not know it.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 1.0
        end = file.seek(0, io.SEEK_END)
        at = 12
        while at + 8 <= end:
            file.seek(at)
            kind, size = struct.unpack("<4sI", file.read(8))
            if kind == b"data":
                held = end - at - 8
                return size / held if held and size < 0x7FFFF000 else 1.0
            at += 8 + size + size % 2
    return 1.0


def _guesses(container: Any) -> bool:
    """Whether ffmpeg estimates the duration from the bit rate or by looking for the last time stamp."""
    kind = container.format.name
    if kind == "mp3":
        return not _has_xing_header(container)
    return kind in ("aac", "ac3", "eac3", "amr", "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "dv")


def _has_xing_header(container: Any) -> bool:
    """MP3 encoders note the number of frames in the first one; without it the duration is a guess."""
    path = container.name.removeprefix("file:") if container.name else ""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as stream:
        head = stream.read(10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
        stream.seek(start)
        frame = stream.read(4096)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))
