from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ifmdm_core.errors import BadInput, IfmdmError
from ifmdm_core.media.audio import read_audio
from ifmdm_core.media.container import declared_seconds, opened, wav_shortfall
from ifmdm_core.media.image import read_image

from .conftest import Encode, clicks

damage = st.tuples(
    st.floats(0.05, 1),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=20),
    st.booleans(),
)


def damaged(data: bytes, how: tuple[float, list[tuple[float, int]], bool]) -> bytes:
    """Cut, and some bytes changed, anywhere or in the header only."""
    part, changes, in_header = how
    cut = bytearray(data[: max(1, int(part * len(data)))])
    for place, value in changes:
        cut[int(place * (min(300, len(cut)) if in_header else len(cut)))] = value
    return bytes(cut)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    from .conftest import ffmpeg

    folder = tmp_path_factory.mktemp("sounds")
    source = ("-f", "f32le", "-ar", 16000, "-ac", 1, "-i", "pipe:0")
    for name in ("a.wav", "a.flac", "a.mp3", "a.m4a", "a.opus", "a.mkv"):
        ffmpeg(*source, folder / name, data=clicks(16000).tobytes())
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 5), damage)
def test_damaged_sound_is_read_or_refused_in_our_words(
    sounds: list[bytes], which: int, how: tuple[float, list[tuple[float, int]], bool]
) -> None:
    try:
        audio = read_audio(damaged(sounds[which], how), "x")
    except IfmdmError as error:
        assert str(error).startswith("x: ")
    else:
        assert np.isfinite(audio.samples).all()
        assert audio.num_frames(25) >= 1


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000"]), damage)
def test_damaged_pictures_are_read_or_refused_in_our_words(
    kind: str, how: tuple[float, list[tuple[float, int]], bool]
) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).save(stream, kind)
    try:
        image = read_image(damaged(stream.getvalue(), how), "x")
    except IfmdmError as error:
        assert str(error).startswith("x: ")
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3


@pytest.mark.parametrize(
    ("name", "known"), [("a.wav", True), ("a.flac", True), ("a.mp3", True), ("a.m4a", True), ("a.aac", False)]
)
def test_only_stated_durations_count(encode: Encode, name: str, known: bool) -> None:
    path = encode(name, samples=clicks(44100), rate=44100)
    with opened(path, "audio") as (container, _):
        seconds = declared_seconds(container, container.streams.audio[0])
    assert (seconds is not None) == known
    assert not known or seconds == pytest.approx(2.0, abs=0.06)


def test_the_shortfall_of_a_wav(encode: Encode, tmp_path: Path) -> None:
    whole = encode("a.wav", samples=clicks(16000), rate=16000).read_bytes()
    assert wav_shortfall(whole) == 1
    assert wav_shortfall(whole[: len(whole) // 2]) == pytest.approx(2, rel=0.01)
    unknown = whole.replace(b"data" + (64000).to_bytes(4, "little"), b"data\xff\xff\xff\xff")
    assert unknown != whole
    assert wav_shortfall(unknown) == 1  # written to a pipe: its length is what there is
    assert wav_shortfall(b"RIFF") == 1
    assert read_audio(unknown).duration == 2


def test_the_white_list_holds_the_usual_formats() -> None:
    from ifmdm_core.media.container import FORMATS

    for dangerous in ("hls", "concat", "dash", "image2", "lavfi", "sdp", "rtsp"):
        assert dangerous not in FORMATS.split(",")
    known = {name for formats in av.formats_available for name in formats.split(",")}
    assert {"wav", "mp3", "flac", "ogg", "mov", "matroska"} <= known & set(FORMATS.split(","))


def test_an_error_names_what_was_given() -> None:
    with pytest.raises(BadInput, match=r"voice: is not audio"), opened(b"junk" * 100, "audio", "voice"):
        pass
