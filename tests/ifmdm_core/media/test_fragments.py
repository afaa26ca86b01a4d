"""Streams: each group is playable as soon as it is added; times of pictures and sound go on; the whole is the same."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ifmdm_core.errors import IfmdmError
from ifmdm_core.media.audio import Audio, audio_from_samples
from ifmdm_core.media.fragments import FragmentedMp4, finished_mp4
from ifmdm_core.media.gop import encode_gop

from .test_gop import gradient

TAGS = {"comment": "AI-generated", "ifmdm": '{"seed":7}'}
BANGS = (0.0, 1.0, 2.0, 3.5)


def bangs(rate: int, seconds: float = 4.03, channels: int = 1) -> Audio:
    """Near silence with a burst at each of BANGS that it lasts to."""
    samples = 1e-3 * np.random.default_rng(0).standard_normal(int(seconds * rate))
    for time in (time for time in BANGS if time < seconds):
        at = int(time * rate)
        samples[at : at + rate // 100] += 0.8 * np.sin(np.arange(rate // 100) * 0.5)
    return audio_from_samples(np.stack([samples] * channels, -1).astype(np.float32), rate)


def groups(num_frames: int, size: int, fps: int) -> list[bytes]:
    starts = range(0, num_frames, size)
    return [encode_gop(gradient(min(size, num_frames - k), first=k), fps) for k in starts]


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """An MP4's outermost boxes: names and contents, in order."""
    at, found = 0, []
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    return found


def picture_times(source: Any) -> list[Fraction]:
    with av.open(source) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def bang_times(source: Any) -> list[float]:
    with av.open(source) as container:
        frames = list(container.decode(audio=0))
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    times = np.flatnonzero(np.abs(sound) > 0.3) / frames[0].sample_rate + float(frames[0].time)
    return list(times[np.diff(times, prepend=-1) > 0.1])


@pytest.mark.parametrize(("fps", "rate", "channels"), [(25, 22_050, 1), (30, 44_100, 2), (12, 16_000, 1)])
def test_pictures_and_sound_keep_their_times(fps: int, rate: int, channels: int, tmp_path: Path) -> None:
    audio = bangs(rate, channels=channels)
    gops = groups(audio.num_frames(fps), 8, fps)
    stream = FragmentedMp4(audio, fps, TAGS)
    data = b"".join(stream.add(gop) for gop in gops)
    stream.finish()
    finished_mp4(gops, audio, fps, TAGS, tmp_path / "whole.mp4")
    assert stream.frames == audio.num_frames(fps) == (2 * audio.source_samples * fps + rate) // (2 * rate)
    for source in (lambda: io.BytesIO(data), lambda: str(tmp_path / "whole.mp4")):
        assert picture_times(source()) == [Fraction(k, fps) for k in range(audio.num_frames(fps))]
        assert bang_times(source()) == pytest.approx(BANGS, abs=0.002)
        with av.open(source()) as container:
            assert {name: container.metadata.get(name) for name in TAGS} == TAGS
            sound = container.streams.audio[0].codec_context
            assert (sound.name, sound.layout.nb_channels) == ("aac", channels)
            assert container.streams.video[0].codec_context.colorspace == 1


def test_a_fragment_leaves_with_its_group() -> None:
    audio = bangs(16_000)
    stream, data = FragmentedMp4(audio, 25, TAGS), b""
    gops = groups(101, 8, 25)
    for number, gop in enumerate(gops):
        piece = stream.add(gop)
        names = [name for name, _ in boxes(piece)]
        assert names == ([b"ftyp", b"moov"] if number == 0 else []) + [b"moof", b"mdat"]
        moof = dict(boxes(piece))[b"moof"]
        assert dict(boxes(moof))[b"mfhd"][4:8] == struct.pack(">I", number + 1)
        data += piece
        assert len(picture_times(io.BytesIO(data))) == min(101, 8 * (number + 1))
        with av.open(io.BytesIO(data)) as container:
            heard = max(float((p.pts + p.duration) * p.time_base) for p in container.demux(audio=0) if p.size)
        assert heard >= min(4.03, 8 * (number + 1) / 25), "no player waits for sound at a fragment's end"


def test_the_first_fragment_tells_how_long_the_whole_will_be() -> None:
    audio = bangs(44_100)
    mp4 = FragmentedMp4(audio, 25, TAGS)
    first = mp4.add(groups(101, 25, 25)[0])
    with av.open(io.BytesIO(first)) as container:
        assert container.duration == pytest.approx(4.04 * av.time_base, abs=1000)
        for stream in container.streams:
            assert float(stream.duration * stream.time_base) == pytest.approx(4.04, abs=1e-3)
        assert sum(1 for _ in container.decode(video=0)) == 25


def test_pictures_are_not_encoded_again(tmp_path: Path) -> None:
    audio = bangs(16_000, 1.2)
    gops = groups(30, 7, 25)
    finished_mp4(gops, audio, 25, TAGS, tmp_path / "whole.mp4")
    names = [name for name, _ in boxes((tmp_path / "whole.mp4").read_bytes())]
    assert names.index(b"moov") < names.index(b"mdat")
    assert [file.name for file in tmp_path.iterdir()] == ["whole.mp4"]

    def pictures(source: Any) -> list[bytes]:
        with av.open(source) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    coded = [picture for gop in gops for picture in pictures(io.BytesIO(gop))]
    assert pictures(str(tmp_path / "whole.mp4")) == coded


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    audio = bangs(16_000, 1.0)
    stream = FragmentedMp4(audio, 25, {})
    stream.add(encode_gop(gradient(20), 25))
    with pytest.raises(ValueError, match="differ in size"):
        stream.add(encode_gop(gradient(2, 96), 25))
    with pytest.raises(IfmdmError, match="20 of 25 frames"):
        stream.finish()
    with pytest.raises(ValueError, match="more than the 25"):
        stream.add(encode_gop(gradient(6), 25))
    with pytest.raises(IfmdmError, match="20 of 25 frames"):
        finished_mp4([encode_gop(gradient(20), 25)], audio, 25, {}, tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())
