"""Measures that order clips as people would, and fingerprints that find copies only."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.media.clip_codec import decode_clip, encode_clip
from ifmdm_core.media.image import read_image
from pipelines.clips.fingerprint import PICTURE_BYTES, fingerprint
from pipelines.clips.quality import SILENT, face_look, head_motion, sound_quality
from pipelines.clips.sync_offset import judged_frames
from tests.talking_videos import talking_frames

BOX = np.array([200.0, 60.0, 110.0, 130.0])


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return read_image(portrait)


def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Syllables of noise, four a second, each of its own colour, with pauses."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * 16_000)) / 16_000
    loud = np.clip(np.sin(2 * np.pi * (4 * at + rng.uniform())), 0, 1) ** 2
    spectra = np.repeat(rng.uniform(-0.95, 0.95, round(8 * seconds) + 1), 2000)[: len(at)]  # one pole each
    carrier, last = rng.normal(0, 1, len(at)), 0.0
    for k, pole in enumerate(spectra):
        carrier[k] = last = carrier[k] + pole * last
    return (0.3 * loud * carrier / np.abs(carrier).max() + rng.normal(0, 1e-4, len(at))).astype(np.float32)


def bits(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def test_blur_lowers_sharpness_and_light_raises_brightness(photo: np.ndarray) -> None:
    sharp, brightness = face_look(photo, BOX)
    blurred, _ = face_look(cv2.GaussianBlur(photo, (0, 0), 3), BOX)
    _, dark = face_look((photo * 0.5).astype(np.uint8), BOX)
    assert blurred < 0.3 * sharp
    assert dark == pytest.approx(brightness / 2, rel=0.05)


def test_a_box_outside_the_picture_is_no_error(photo: np.ndarray) -> None:
    assert face_look(photo, np.array([-500.0, 0.0, 100.0, 100.0])) == (0.0, 0.0)
    assert face_look(photo, np.array([-30.0, -30.0, 600.0, 600.0]))[1] > 0


def test_head_motion_does_not_depend_on_the_size_of_the_picture() -> None:
    boxes = np.tile(BOX, (50, 1))
    assert head_motion(boxes) == 0
    boxes[:, 0] += 20 * np.sin(np.arange(50))
    assert head_motion(boxes) == pytest.approx(head_motion(3 * boxes))
    assert 0.05 < head_motion(boxes) < 0.2


def test_speech_is_told_from_silence_and_steady_noise() -> None:
    assert 0.3 < sound_quality(speech(), 50).speech_share < 0.9
    assert sound_quality(np.zeros(32_000, np.float32), 50) == type(sound_quality(speech(), 50))(SILENT, 0.0)
    noise = np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    assert sound_quality(noise, 50).speech_share == 0
    assert sound_quality(noise, 50).loudness == pytest.approx(-26, abs=0.5)


def test_half_of_the_time_is_half_of_the_speech() -> None:
    whole = np.concatenate([speech(2.0), np.random.default_rng(1).normal(0, 1e-4, 32_000)]).astype(np.float32)
    share = sound_quality(speech(2.0), 50).speech_share
    assert sound_quality(whole, 100).speech_share == pytest.approx(share / 2, abs=0.12)


def test_a_copy_of_worse_quality_has_nearly_the_same_fingerprint() -> None:
    frames, sound = talking_frames(1, 26, 192), speech(1.04)
    shown = (0, 13, 25)
    mine = fingerprint([frames[k] for k in shown], sound)
    small = [cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA) for frame in frames]
    worse = decode_clip(encode_clip(small, crf=30), shown)
    noisy = 0.5 * sound + np.random.default_rng(2).normal(0, 1e-5, len(sound))
    copy = fingerprint(list(worse), noisy.astype(np.float32))
    assert bits(mine[:PICTURE_BYTES], copy[:PICTURE_BYTES]) <= 12
    assert bits(mine[PICTURE_BYTES:], copy[PICTURE_BYTES:]) <= 50


@settings(max_examples=15, deadline=None)
@given(seeds=st.tuples(st.integers(0, 500), st.integers(0, 500)).filter(lambda pair: pair[0] != pair[1]))
def test_other_words_of_the_same_head_differ_in_many_bits(seeds: tuple[int, int]) -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    first, second = (fingerprint([frame] * 3, speech(1.5, seed)) for seed in seeds)
    assert bits(first[PICTURE_BYTES:], second[PICTURE_BYTES:]) > 60


@given(count=st.integers(1, 1000))
def test_judged_frames_are_the_middle(count: int) -> None:
    judged = judged_frames(count)
    assert len(judged) == (0 if count < 40 else min(count, 100))
    if judged:
        assert 0 <= judged.start - (count - judged.stop) + 1 <= 2
