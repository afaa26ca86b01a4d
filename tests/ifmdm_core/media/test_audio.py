from __future__ import annotations

import gc
import math
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, NotFound
from ifmdm_core.media.audio import RATE, Audio, NativeAudio, audio_from_samples, read_audio

from .conftest import SECONDS, Encode, click_errors, clicks

CODECS = {
    "wav": (), "flac": (), "mp3": ("-c:a", "libmp3lame"), "m4a": ("-c:a", "aac"), "mov": ("-c:a", "aac"),
    "mkv": ("-c:a", "aac"), "opus": ("-c:a", "libopus"), "webm": ("-c:a", "libopus"), "ogg": ("-c:a", "libvorbis"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (48000, 1)])
def test_a_click_keeps_its_time_through_every_codec(
    encode: Encode, suffix: str, rate: int, channels: int
) -> None:
    path = encode(f"a.{suffix}", *CODECS[suffix], samples=clicks(rate, channels), rate=rate)
    audio = read_audio(path)
    native = np.fromfile(audio.native.path, "<i2").reshape(-1, audio.native.channels)
    assert np.abs(click_errors(audio.samples, RATE)).max() < 2  # milliseconds
    assert np.abs(click_errors(native[:, 0], audio.native.rate)).max() < 2
    assert len(native) == audio.native.num_samples == audio.source_samples
    assert audio.native.channels == channels
    assert abs(audio.duration - SECONDS) < (
        0.13 if suffix == "mkv" else 0.001
    )  # only Matroska hides AAC's padding
    assert len(audio.samples) == round(audio.duration * RATE)
    if suffix != "mkv":
        assert audio.num_frames(25) == 50


@pytest.mark.parametrize("layout", ["5.1", "7.1", "quad"])
def test_many_channels_become_stereo(encode: Encode, layout: str) -> None:
    count = {"5.1": 6, "7.1": 8, "quad": 4}[layout]
    audio = read_audio(encode("a.flac", "-channel_layout", layout, samples=clicks(16000, count), rate=16000))
    assert audio.native.channels == 2
    assert np.abs(click_errors(audio.samples, RATE)).max() < 2


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_mulaw"]
)
def test_sample_formats(encode: Encode, codec: str) -> None:
    samples = clicks(22050)
    audio = read_audio(encode("a.wav", "-c:a", codec, samples=samples, rate=22050))
    native = np.fromfile(audio.native.path, "<i2") / 32768
    coarse = codec in ("pcm_u8", "pcm_mulaw")
    np.testing.assert_allclose(native, samples[:, 0], atol=0.03 if coarse else 1e-4)


def test_bytes_are_read_like_files(encode: Encode) -> None:
    path = encode("a.mp3", samples=clicks(44100), rate=44100)
    np.testing.assert_array_equal(read_audio(path.read_bytes()).samples, read_audio(path).samples)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 10**8),
    st.sampled_from([8000, 11127, 16000, 44100, 48000]),
    st.sampled_from([24, 25, 30, 60]),
)
def test_frames_are_rounded_half_up_in_integers(samples: int, rate: int, fps: int) -> None:
    audio = Audio(np.zeros(0, np.float32), rate, samples, NativeAudio(Path("x"), rate, 1, samples))
    assert audio.num_frames(fps) == math.floor(Fraction(samples * fps, rate) + Fraction(1, 2))
    exact = Fraction(samples * 30000, rate * 1001) + Fraction(1, 2)
    assert audio.num_frames(Fraction(30000, 1001)) == math.floor(exact)


def test_samples_given_as_arrays() -> None:
    samples = clicks(44100, 2)
    audio = audio_from_samples(samples, 44100)
    assert audio.source_samples == len(samples)
    assert audio.native.channels == 2
    assert np.abs(click_errors(audio.samples, RATE)).max() < 2
    assert np.ptp(audio_from_samples(samples[:, 0], 44100).samples - audio.samples) < 1e-4
    with pytest.raises(ValueError, match=r"\[n\]"):
        audio_from_samples(np.zeros((100, 3)), 8000)


def test_temporary_files_live_as_long_as_the_audio() -> None:
    audio = audio_from_samples(clicks(16000), 16000)
    path = audio.native.path
    assert path.is_file()
    del audio
    gc.collect()
    assert not path.exists()


def test_missing_empty_and_not_audio(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.wav"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(BadInput, match=r"empty\.wav: .*empty"):
        read_audio(tmp_path / "empty.wav")
    (tmp_path / "text.mp3").write_text("this is not sound\n" * 50)
    with pytest.raises(BadInput, match=r"text\.mp3: is not audio.*; give a file"):
        read_audio(tmp_path / "text.mp3")
    with pytest.raises(BadInput, match="empty"):
        read_audio(b"")


def test_a_picture_is_not_audio(tmp_path: Path) -> None:
    from ifmdm_core.media.image import write_image

    write_image(tmp_path / "p.png", np.zeros((80, 80, 3), np.uint8))
    with pytest.raises(BadInput, match=r"p\.png"):
        read_audio(tmp_path / "p.png")


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    from .conftest import ffmpeg

    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=0.4", "-pix_fmt", "yuv420p", tmp_path / "mute.mp4")
    with pytest.raises(BadInput, match=r"mute\.mp4: has no sound"):
        read_audio(tmp_path / "mute.mp4")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "mkv"])
def test_truncated_sound_is_refused(encode: Encode, suffix: str) -> None:
    options = (*CODECS[suffix], *(("-movflags", "+faststart") if suffix == "m4a" else ()))
    path = encode(f"cut.{suffix}", *options, samples=clicks(44100, 1, 4.0), rate=44100)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.55 * len(whole))])
    with pytest.raises(BadInput, match=rf"cut\.{suffix}: .*(truncated|damaged).*; download"):
        read_audio(path)


def test_an_mp4_without_its_index_is_refused(encode: Encode) -> None:
    path = encode("cut.m4a", "-c:a", "aac", samples=clicks(44100), rate=44100)  # the index is at the end
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r"cut\.m4a"):
        read_audio(path)


def test_corrupt_sound_is_refused(encode: Encode) -> None:
    path = encode("bad.flac", samples=clicks(44100, 2), rate=44100)
    damaged = bytearray(path.read_bytes())
    start = len(damaged) // 4
    damaged[start:] = np.random.default_rng(0).bytes(len(damaged) - start)
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"bad\.flac"):
        read_audio(path)


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_is_refused(level: float) -> None:
    quiet = level * np.sin(np.arange(16000))
    with pytest.raises(BadInput, match=r"q\.wav: is silent; give"):
        audio_from_samples(quiet, 16000, "q.wav")


def test_a_constant_is_silence_and_a_whisper_is_not() -> None:
    with pytest.raises(BadInput, match="silent"):
        audio_from_samples(np.full(16000, 0.4), 16000)
    assert audio_from_samples(0.002 * np.sin(np.arange(16000)), 16000).duration == 1


def test_no_and_few_samples_are_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "zero.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    with pytest.raises(BadInput, match=r"zero\.wav: .*(0 samples|not audio)"):
        read_audio(tmp_path / "zero.wav")
    with pytest.raises(BadInput, match="only 50 ms"):
        audio_from_samples(clicks(16000)[:800], 16000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(encode: Encode, value: float) -> None:
    samples = clicks(16000)
    samples[7000] = value
    with pytest.raises(BadInput, match=r"n\.wav: .*NaN"):
        read_audio(encode("n.wav", "-c:a", "pcm_f32le", samples=samples, rate=16000))


def test_hours_are_refused_from_the_header(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(100)
        file.writeframes(b"\x80" * (7 * 3600 * 100))
    with pytest.raises(BadInput, match=r"long\.wav: 7\.0 hours") as caught:
        read_audio(tmp_path / "long.wav")
    assert caught.value.http_status == 413


def test_playlists_may_not_name_other_files(encode: Encode, tmp_path: Path) -> None:
    secret = encode("secret.wav", samples=clicks(16000), rate=16000)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(BadInput, match="is not audio"):
            read_audio(tmp_path / name)
        with pytest.raises(BadInput, match="is not audio"):
            read_audio((tmp_path / name).read_bytes(), name)


@pytest.mark.parametrize("name", ["http://127.0.0.1/a.wav", "concat:a.wav|b.wav", "pipe:0", "-i"])
def test_addresses_are_only_file_names(name: str) -> None:
    with pytest.raises(NotFound, match="no such audio file"):
        read_audio(name)


def test_a_name_that_looks_like_an_address_is_a_file(encode: Encode, tmp_path: Path) -> None:
    path = encode("a.wav", samples=clicks(16000), rate=16000).rename(tmp_path / "data:,x.wav")
    assert read_audio(path).duration == SECONDS
