"""Groups of pictures and their sound as an MP4: in fragments while they are made, or whole once all are there.

Pictures are joined as they are; sound is encoded to AAC here. A fragment leaves as soon as its group has come, since
each is written by a muxer of its own, which is closed at once; the numbers that continue from fragment to fragment
are told to it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ifmdm_core.errors import IfmdmError
from ifmdm_core.media.audio import Audio
from ifmdm_core.media.files import published
from ifmdm_core.media.video_writer import AAC_RATES

LEAD_S = 0.2
"""Seconds that sound runs ahead of pictures in a stream, so that no player waits for it at a fragment's end."""
_DURATIONS: dict[bytes, tuple[int | None, int]] = {b"mvhd": (20, 24), b"tkhd": (None, 28), b"mdhd": (20, 24)}
"""Boxes with a duration -> where in them are the ticks per second (None: the movie's) and the duration in ticks."""


class FragmentedMp4:
    """An MP4 stream that plays while it comes: `b"".join(mp4.add(gop) for gop in gops) + mp4.finish()`."""

    def __init__(self, audio: Audio, fps: int, tags: dict[str, str]) -> None:
        """A stream of `audio.num_frames(fps)` frames; `tags` become container metadata."""
        self.fps, self.num_frames, self.frames = fps, audio.num_frames(fps), 0
        self._sound, self._tags = _Sound(audio), tags
        self._fragments = 0
        self._header: bytes | None = None

    def add(self, gop: bytes) -> bytes:
        """The next group (`media.gop.encode_gop`) as one fragment, the first with the stream's header.

        Raises ValueError for a group with another header than the first's, or beyond the frames of the audio.
        """
        file = io.BytesIO()
        with av.open(io.BytesIO(gop), format="nut") as source:
            video = source.streams.video[0]
            header = bytes(video.codec_context.extradata)
            if self._header not in (None, header):
                raise ValueError("groups of one stream differ in size, rate or encoder")
            with av.open(file, "w", format="mp4", options=self._options()) as container:
                container.metadata.update(self._tags)
                pictures = container.add_stream_from_template(video)
                sound = self._sound.stream_in(container)
                for packet in _pictures(source, self.frames, self.fps, pictures):
                    container.mux(packet)
                    self.frames += 1
                if self.frames > self.num_frames:
                    raise ValueError(f"more than the {self.num_frames} frames of the sound")
                last = self.frames == self.num_frames
                for packet in self._sound.packets(None if last else self.frames / self.fps + LEAD_S):
                    # Later fragments cannot know of the edit list that hides the encoder's priming.
                    if self._fragments:
                        packet.pts, packet.dts = (
                            packet.pts + self._sound.priming,
                            packet.dts + self._sound.priming,
                        )
                    packet.stream = sound
                    container.mux(packet)
        self._fragments += 1
        if self._header is None:
            self._header = header
            return _with_duration(file.getvalue(), Fraction(self.num_frames, self.fps))
        return _without_header(file.getvalue())

    def finish(self) -> None:
        """Checks that the stream is whole; raises IfmdmError where frames are missing."""
        if self.frames != self.num_frames:
            raise IfmdmError(f"the stream has {self.frames} of {self.num_frames} frames")

    def _options(self) -> dict[str, str]:
        flags = "+empty_moov+default_base_moof+frag_custom+skip_trailer+use_metadata_tags"
        # Only the first header is kept; it waits for the first packets, whose priming goes into the edit list.
        flags += "+frag_discont" if self._fragments else "+delay_moov"
        return {
            "movflags": flags, "use_editlist": "1", "avoid_negative_ts": "disabled",
            "fragment_index": str(self._fragments + 1),
        }  # fmt: skip


def finished_mp4(
    gops: Iterable[bytes], audio: Audio, fps: int, tags: dict[str, str], path: str | os.PathLike[str]
) -> None:
    """Writes the same pictures and sound as an ordinary MP4 that starts playing while it loads.

    The file appears under its name only when it is whole. Raises IfmdmError where frames are missing, what
    `media.files.published` raises where it cannot be written.
    """
    sound, frames = _Sound(audio), 0
    with published(path) as temporary:
        options = {"movflags": "+faststart+use_metadata_tags"}
        with av.open(str(temporary), "w", format="mp4", options=options) as container:
            container.metadata.update(tags)
            pictures: Any = None
            for gop in gops:
                with av.open(io.BytesIO(gop), format="nut") as source:
                    if pictures is None:
                        pictures = container.add_stream_from_template(source.streams.video[0])
                        heard = sound.stream_in(container)
                    for packet in _pictures(source, frames, fps, pictures):
                        container.mux(packet)
                        frames += 1
                for packet in sound.packets(frames / fps if frames < audio.num_frames(fps) else None):
                    packet.stream = heard
                    container.mux(packet)
            if frames != audio.num_frames(fps):
                raise IfmdmError(f"{path}: {frames} of {audio.num_frames(fps)} frames came")


def _pictures(source: Any, first: int, fps: int, stream: Any) -> Iterator[Any]:
    """The packets of a group, the first being frame `first` of the whole."""
    number = first
    for packet in source.demux(video=0):
        if not packet.size:  # the demuxer's end
            continue
        packet.time_base = Fraction(1, fps)
        packet.pts = packet.dts = number
        packet.duration = 1
        packet.stream = stream
        number += 1
        yield packet


class _Sound:
    """Encodes sound to AAC as far as it is asked for."""

    def __init__(self, audio: Audio) -> None:
        native = audio.native
        self._path, self._total, self._rate = native.path, native.num_samples, native.rate
        self._layout = "mono" if native.channels == 1 else "stereo"
        self._channels = native.channels
        self._aac_rate = native.rate if native.rate in AAC_RATES else 48_000
        self._encoder: Any = av.CodecContext.create("aac", "w")
        self._configure(self._encoder)
        self._resampler = av.AudioResampler("fltp", self._layout, self._aac_rate)
        self._done = 0  # samples at the audio's own rate
        self._ended = False
        self.priming = 0
        """Samples at the encoder's rate before the sound's own first one, known with the first packet."""

    def stream_in(self, container: Any) -> Any:
        """A stream of a container for these packets."""
        stream = container.add_stream("aac", rate=self._aac_rate)
        self._configure(stream.codec_context)
        return stream

    def packets(self, until_s: float | None) -> Iterator[Any]:
        """Packets of the sound up to about that second, None for all that is left."""
        until = self._total if until_s is None else min(self._total, int(until_s * self._rate))
        while self._done < until:
            count = min(until - self._done, self._rate)
            block = np.fromfile(
                self._path, "<i2", count * self._channels, offset=2 * self._channels * self._done
            )
            frame = av.AudioFrame.from_ndarray(block[None], "s16", self._layout)
            frame.sample_rate, frame.pts = self._rate, self._done
            frame.time_base = Fraction(1, self._rate)
            self._done += count
            yield from self._encoded(frame)
        if until_s is None and not self._ended:
            self._ended = True
            yield from self._encoded(None)

    def _encoded(self, frame: Any) -> Iterator[Any]:
        for resampled in self._resampler.resample(frame):
            yield from self._noted(self._encoder.encode(resampled))
        if frame is None:
            yield from self._noted(self._encoder.encode(None))

    def _noted(self, packets: list[Any]) -> Iterator[Any]:
        for packet in packets:
            if packet.pts < 0:
                self.priming = max(self.priming, -packet.pts)
            yield packet

    def _configure(self, context: Any) -> None:
        context.sample_rate, context.layout, context.format = self._aac_rate, self._layout, "fltp"
        context.bit_rate = 96_000 * self._channels
        context.time_base = Fraction(1, self._aac_rate)
        context.flags |= av.codec.context.Flags.global_header


def _without_header(data: bytes) -> bytes:
    """A fragmented MP4 from its first moof box on."""
    at = 0
    while data[at + 4 : at + 8] != b"moof":
        at += int.from_bytes(data[at : at + 4], "big")
    return data[at:]


def _with_duration(stream: bytes, seconds: Fraction) -> bytes:
    """The beginning of a fragmented MP4 with the duration of the whole in its header.

    A muxer of fragments leaves 0 there. Chromium then takes what has come so far for the whole: where the stream is
    slower than the player, the video ends, or begins again, instead of waiting for more.
    """
    data, movie_scale = bytearray(stream), 0
    for kind, at in _header_boxes(stream, 0, len(stream)):
        scale_at, duration_at = _DURATIONS[kind]
        assert data[at + 8] == 0, "64-bit times"
        scale = int.from_bytes(data[at + scale_at : at + scale_at + 4], "big") if scale_at else movie_scale
        if kind == b"mvhd":
            movie_scale = scale
        data[at + duration_at : at + duration_at + 4] = round(seconds * scale).to_bytes(4, "big")
    return bytes(data)


def _header_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(kind, place) of the boxes that hold a duration, the movie's first."""
    while at < end:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in _DURATIONS:
            yield kind, at
        elif kind in (b"moov", b"trak", b"mdia"):
            yield from _header_boxes(data, at + 8, at + size)
        at += size
