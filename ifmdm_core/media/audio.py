"""Speech in: any container, codec, rate and channel count -> 16 kHz mono, in bounded memory.

Decoding streams through temporary files: hours of sound cost disk, not memory. Encoder priming and padding (edit
lists, LAME and Opus headers) are removed, so sample 0 is the first sample that was recorded. (Raw ADTS has no such
header: its priming stays, for the speech encoder and the written video alike, so both still agree.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import numpy.typing as npt

from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.media.container import (
    MAX_SECONDS,
    Source,
    declared_seconds,
    known_stream,
    opened,
    reason,
    wav_shortfall,
)

RATE = 16_000  # Hz, what the speech encoder hears
MIN_SECONDS = 0.1
SILENCE = 5e-4  # half of the peak-to-peak amplitude; -66 dBFS
BLOCK = 1 << 16  # samples
PADDING = 4096  # samples; a packet of the usual codecs is shorter

Samples = npt.NDArray[np.float32]


class NoSamples(BadInput):
    """A sound stream that holds nothing, or nothing after the time that was asked for."""


@dataclass(frozen=True)
class NativeAudio:
    """The sound at its own quality for the encoder: a headerless file of interleaved little-endian int16."""

    path: Path
    rate: int
    channels: int
    num_samples: int  # per channel


@dataclass(frozen=True)
class Audio:
    """Decoded sound. `samples` is 16 kHz mono float32 [n] in [-1, 1], backed by a file."""

    samples: Samples
    source_rate: int
    source_samples: int
    native: NativeAudio
    name: str = "the audio"
    _folder: Any = field(default=None, repr=False, compare=False)  # keeps the temporary files alive

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.source_samples / self.source_rate

    def num_frames(self, fps: float | Fraction = 25) -> int:
        """Video frames that this sound lasts: floor(samples * fps / rate + 1/2), in integers."""
        rate = Fraction(fps).limit_denominator(100_000)
        top, bottom = self.source_samples * rate.numerator, self.source_rate * rate.denominator
        return (2 * top + bottom) // (2 * bottom)

    def close(self) -> None:
        """Gives the disk space back now; else it goes with the object."""
        if self._folder is not None:
            self._folder.cleanup()


def read_audio(
    source: Source,
    name: str | None = None,
    *,
    start: float | None = None,
    quiet: bool = False,
    longest: float = MAX_SECONDS,
) -> Audio:
    """The first sound stream of a file (or its bytes).

    With `start`, sample 0 is at that time stamp of the file (seconds): earlier sound is cut, a later
    beginning is padded with silence. With `quiet`, sound that is silent or shorter than 0.1 s is fine. `longest` is
    the most seconds that are taken, told by the header before anything is decoded, or noticed while decoding.
    Raises NotFound, Forbidden or BadInput naming the file: not sound, no sound stream, damaged, shorter than its
    header says, shorter than 0.1 s, longer than `longest` (6 h), silent, or with samples that are not numbers.
    """
    with opened(source, "audio", name) as (container, name):
        if not container.streams.audio:
            raise BadInput(
                f"{name}: has no sound in it", fix="give a file with a sound track, such as WAV or MP3"
            )
        stream = known_stream(container.streams.audio[0], "sound", name)
        declared = declared_seconds(container, stream)
        if declared is not None and declared > longest:
            raise _too_long(name, declared, longest)
        spool = _Spool(name, longest)
        for frame in _frames(container, stream, name):
            if start is not None and spool.rate == 0:
                spool.lead = float(frame.time or 0.0) - start
            spool.add(frame)
        # MP4 tells where the encoder's padding begins; the decoder leaves it in.
        audio = spool.finish(
            declared + spool.lead if declared is not None and "mp4" in container.format.name else None
        )
        promised = (declared or 0.0) * max(1.0, wav_shortfall(source))
        if start is None and audio.duration < promised - max(0.25, 0.01 * promised):
            raise BadInput(
                f"{name}: truncated: holds {audio.duration:.2f} s of the {promised:.2f} s its header promises",
                fix="download or export it again",
            )
    return audio if quiet else _checked(audio, spool)


def audio_from_samples(samples: npt.NDArray[Any], rate: int, name: str = "the audio") -> Audio:
    """Sound from float samples [n] or [n, channels] in [-1, 1] at `rate` Hz; the same checks as `read_audio`."""
    planes = np.atleast_2d(np.asarray(samples, np.float32).T)  # [channels, n]
    if planes.shape[0] > 2:
        raise ValueError(f"samples must be [n], [n, 1] or [n, 2], not {np.shape(samples)}")
    spool = _Spool(name)
    for start in range(0, planes.shape[1], BLOCK):
        block = np.ascontiguousarray(planes[:, start : start + BLOCK])
        frame = av.AudioFrame.from_ndarray(block, "fltp", "mono" if len(planes) == 1 else "stereo")
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = start
        spool.add(frame)
    return _checked(spool.finish(), spool)


def _frames(container: Any, stream: Any, name: str) -> Iterator[Any]:
    """Decoded frames; a few broken packets in a long file are stepped over, more are an error."""
    packets = broken = 0
    last: Exception | None = None
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed, None)
            if packet is None:
                break
            packets += 1
            yield from packet.decode()
        except (av.FFmpegError, ValueError) as error:
            broken += 1
            last = error
            if broken > 50 or isinstance(error, av.error.EOFError):
                break
    if broken > max(1, packets // 50):
        raise BadInput(
            f"{name}: damaged sound ({broken} of {packets} packets do not decode: {reason(last or Exception())})",
            fix="download or export it again",
        ) from last


def _too_long(name: str, seconds: float, longest: float) -> BadInput:
    unit, size = ("hours", 3600) if longest >= 3600 else ("minutes", 60) if longest >= 60 else ("seconds", 1)
    return BadInput(
        f"{name}: {seconds / size:.1f} {unit} of sound; at most {longest / size:g} are read",
        fix="cut it into parts",
        too_large=True,
    )


class _Spool:
    """Resamples decoded frames into two temporary files: 16 kHz mono float32 and native int16."""

    def __init__(self, name: str, longest: float = MAX_SECONDS) -> None:
        self.name, self.longest = name, longest
        self.folder = tempfile.TemporaryDirectory(prefix="ifmdm-audio-", ignore_cleanup_errors=True)
        self.speech_path, self.native_path = (
            Path(self.folder.name, "speech.f32"),
            Path(self.folder.name, "native.s16"),
        )
        self.speech: IO[bytes] = self.speech_path.open("wb")
        self.native: IO[bytes] = self.native_path.open("wb")
        self.rate = self.channels = self.native_count = 0
        self.lead = 0.0  # seconds of silence to put before the first sample, or to cut where negative
        self.low, self.high = 32767, -32768
        self._source: tuple[str, str, int] | None = None
        self._to_native: Any = None
        self._to_speech: Any = None

    def add(self, frame: Any) -> None:
        """Take one decoded frame; a change of rate or layout in mid-stream is followed."""
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self._source:
            self._store(self._resampled(None))
            if self.rate == 0:
                self.rate, self.channels = frame.sample_rate, min(2, frame.layout.nb_channels)
                self._begin()
            # To int16 the mix of many channels is scaled so that it cannot clip; to float it would not be.
            self._to_native = av.AudioResampler("s16", "mono" if self.channels == 1 else "stereo", self.rate)
            self._source = source
        if frame.format.name.startswith(("flt", "dbl")) and not np.isfinite(frame.to_ndarray()).all():
            raise BadInput(
                f"{self.name}: has samples that are not numbers (NaN)", fix="export it again as 16-bit WAV"
            )
        self._store(self._resampled(frame))

    def _resampled(self, frame: Any) -> list[Any]:
        if self._to_native is None:
            return []
        if frame is not None:
            frame.pts = None  # the resampler must not act on time stamps
        try:
            return list(self._to_native.resample(frame))
        except av.FFmpegError as error:  # a damaged header may name impossible rates or layouts
            raise BadInput(
                f"{self.name}: damaged sound ({reason(error)})", fix="download or export it again"
            ) from error

    def finish(self, seconds: float | None = None) -> Audio:
        """Close the files and map them; `seconds` is where the sound ends if the last packet was padded."""
        self._store(self._resampled(None))
        self._hear(None)
        if seconds is not None and 0 < self.native_count - round(seconds * self.rate) < PADDING:
            self.native_count = round(seconds * self.rate)
            self.native.truncate(2 * self.channels * self.native_count)
        self.native.close()
        self.speech.close()
        if self.native_count == 0:
            raise NoSamples(f"{self.name}: has no sound in it (0 samples)", fix="give a recording of speech")
        wanted = (2 * self.native_count * RATE + self.rate) // (2 * self.rate)
        with self.speech_path.open("r+b") as stream:  # the resampler's tail may miss or exceed a few samples
            stream.truncate(4 * wanted)
        samples = np.memmap(self.speech_path, np.float32, "c", shape=(wanted,))
        native = NativeAudio(self.native_path, self.rate, self.channels, self.native_count)
        return Audio(samples, self.rate, self.native_count, native, self.name, self.folder)

    def _begin(self) -> None:
        """Write the leading silence, or note how many samples to cut."""
        if self.lead > self.longest:
            raise _too_long(self.name, self.lead, self.longest)
        self._to_speech = av.AudioResampler("flt", "mono", RATE)
        self._cut = max(0, round(-self.lead * self.rate))
        silence = np.zeros((BLOCK, self.channels), "<i2")
        for start in range(0, round(self.lead * self.rate), BLOCK):
            self._write(silence[: round(self.lead * self.rate) - start])

    def _store(self, frames: list[Any]) -> None:
        for frame in frames:
            block = frame.to_ndarray().reshape(-1, self.channels)  # [n, channels]
            skip = min(self._cut, len(block))
            self._cut -= skip
            if skip < len(block):
                self.low, self.high = min(self.low, int(block.min())), max(self.high, int(block.max()))
                self._write(block[skip:])
        if self.native_count > self.longest * self.rate:
            raise _too_long(self.name, self.native_count / self.rate, self.longest)

    def _write(self, block: npt.NDArray[np.int16]) -> None:
        """Append int16 [n, channels] to both files."""
        self._append(self.native, block.astype("<i2").tobytes())
        self.native_count += len(block)
        mono = av.AudioFrame.from_ndarray(block.mean(1, dtype=np.float32)[None] / 32768, "flt", "mono")
        mono.sample_rate = self.rate
        self._hear(mono)

    def _hear(self, mono: Any) -> None:
        for frame in self._to_speech.resample(mono) if self._to_speech is not None else ():
            self._append(self.speech, np.clip(frame.to_ndarray().ravel(), -1, 1).astype("<f4").tobytes())

    def _append(self, file: IO[bytes], data: bytes) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise Unavailable(
                f"{self.name}: no room for the decoded sound in {self.folder.name} ({error.strerror})",
                fix="free some space, or set TMPDIR to a larger disk",
            ) from error


def _checked(audio: Audio, spool: _Spool) -> Audio:
    if audio.duration < MIN_SECONDS:
        raise BadInput(
            f"{audio.name}: only {1000 * audio.duration:.0f} ms of sound",
            fix=f"give at least {MIN_SECONDS} s of speech",
        )
    if (spool.high - spool.low) / 65536 < SILENCE:
        raise BadInput(
            f"{audio.name}: is silent", fix="give a recording of speech; check that the right track is used"
        )
    return audio
