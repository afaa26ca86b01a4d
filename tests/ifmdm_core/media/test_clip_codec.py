"""Clips as bytes: what goes in comes out, any rows in any order, and the same bytes from any process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from ifmdm_core.media.clip_codec import decode_clip, decode_sound, encode_clip, encode_sound, to_int16

NUM_FRAMES = 30


def pictures(count: int = NUM_FRAMES, size: int = 64) -> np.ndarray:
    """uint8 [count, size, size, 3]: smooth colours that brighten from frame to frame."""
    base = np.random.default_rng(1).integers(0, 120, (4, 4, 3)).astype(np.uint8)
    base = cv2.resize(base, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.clip(base.astype(int) + 4 * k, 0, 255).astype(np.uint8) for k in range(count)])


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode_clip(pictures(), keyint=12)


def test_frames_come_back_nearly_as_they_were(clip: bytes) -> None:
    frames = decode_clip(clip)
    assert frames.shape == (NUM_FRAMES, 64, 64, 3)
    assert np.abs(frames.mean(-1) - pictures().mean(-1)).mean() < 2  # colour has half the resolution


def test_colours_keep_their_mean() -> None:
    flat = np.zeros((64, 64, 3), np.uint8) + np.array([200, 90, 30], np.uint8)
    back = decode_clip(encode_clip([flat] * 3))
    assert np.abs(back.reshape(-1, 3).mean(0) - (200, 90, 30)).max() < 2.5


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.integers(0, NUM_FRAMES - 1), max_size=8))
def test_rows_come_in_the_order_asked_for(clip: bytes, rows: list[int]) -> None:
    assert np.array_equal(decode_clip(clip, rows), decode_clip(clip)[rows])


def test_a_row_beyond_the_end_is_an_error(clip: bytes) -> None:
    with pytest.raises(IndexError, match="30"):
        decode_clip(clip, [NUM_FRAMES])


def test_keyframes_come_at_the_given_distance(clip: bytes) -> None:
    import io

    import av

    with av.open(io.BytesIO(clip)) as container:
        kinds = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert [k for k, key in enumerate(kinds) if key] == [0, 12, 24]


def test_equal_input_gives_equal_bytes_in_every_process(clip: bytes) -> None:
    sound = np.sin(np.arange(16_000) / 9).astype(np.float32)
    code = (
        "import hashlib, numpy as np\n"
        "from ifmdm_core.media.clip_codec import encode_clip, encode_sound\n"
        "from tests.ifmdm_core.media.test_clip_codec import pictures\n"
        "sound = np.sin(np.arange(16_000) / 9).astype(np.float32)\n"
        "print(hashlib.sha256(encode_clip(pictures(), keyint=12) + encode_sound(sound)).hexdigest())"
    )
    expected = hashlib.sha256(clip + encode_sound(sound)).hexdigest()
    for threads, junk in (
        ("1", "0"),
        ("3", "170"),
    ):  # what memory holds before it is written, where glibc allows
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MALLOC_PERTURB_": junk}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert done.stdout.decode().strip() == expected


@pytest.mark.parametrize("shape", [(63, 63, 3), (64, 64), (64, 64, 4)])
def test_frames_that_h264_cannot_hold_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="even"):
        encode_clip([np.zeros(shape, np.uint8)])


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="frame 1"):
        encode_clip([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)])
    with pytest.raises(ValueError, match="at least one"):
        encode_clip([])


@pytest.mark.parametrize("keep", [0, 20, 700, 0.5])
def test_damaged_clips_are_refused_by_name(clip: bytes, keep: float) -> None:
    cut = clip[: int(keep * len(clip)) if isinstance(keep, float) else keep]
    with pytest.raises(BadInput, match="clip 7"):
        decode_clip(cut, name="clip 7")


@settings(max_examples=25, deadline=None)
@given(data=st.binary(min_size=2, max_size=20_000))
def test_sound_comes_back_exactly(data: bytes) -> None:
    samples = np.frombuffer(data[: len(data) // 2 * 2], np.int16)
    assert np.array_equal(decode_sound(encode_sound(samples)), samples.astype(np.float32) / 32768)


def test_loud_floats_are_clipped_not_wrapped() -> None:
    assert to_int16(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [-32768, -32768, 0, 32767, 32767]


def test_no_samples_and_damaged_sound_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        encode_sound(np.zeros(0, np.int16))
    noise = np.random.default_rng(0).normal(0, 0.2, 32_000)
    data = encode_sound(noise)
    with pytest.raises(BadInput, match="damaged"):
        decode_sound(data[: len(data) // 2])
