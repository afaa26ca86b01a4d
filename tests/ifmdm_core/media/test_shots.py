"""Cuts are found where scenes change; motion, flashes and light are no cuts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.media.image import read_image
from ifmdm_core.media.shots import distance, shot_starts, signature, suspicious

LENGTH = 24  # frames of a scene


def scene(seed: int) -> np.ndarray:
    """A picture [90, 160, 3] of large blobs in its own colours."""
    rng = np.random.default_rng(seed)
    image = np.zeros((90, 160, 3), np.uint8) + rng.integers(0, 255, 3).astype(np.uint8)
    for _ in range(12):
        centre = int(rng.integers(0, 160)), int(rng.integers(0, 90))
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.circle(image, centre, int(rng.integers(8, 30)), colour, -1)
    return image


def film(image: np.ndarray, count: int = LENGTH, speed: float = 1.0, seed: int = 0) -> list[np.ndarray]:
    """The picture panned slowly, with noise."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(count):
        matrix = np.array([[1.1, 0, -speed * k], [0, 1.1, 2 * np.sin(k / 4)]])
        moved = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
        frames.append(np.clip(moved + rng.normal(0, 4, moved.shape), 0, 255).astype(np.uint8))
    return frames


def starts(frames: list[np.ndarray]) -> list[int]:
    return shot_starts([signature(frame) for frame in frames])


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True))
def test_every_cut_is_found_at_its_frame(seeds: list[int]) -> None:
    frames = [frame for seed in seeds for frame in film(scene(seed))]
    assert starts(frames) == [LENGTH * k for k in range(len(seeds))]


def test_a_cut_to_a_portrait(portrait) -> None:
    frames = film(scene(1)) + film(read_image(portrait))
    assert starts(frames) == [0, LENGTH]


@pytest.mark.parametrize("speed", [0.0, 2.0, 5.0])
def test_camera_motion_is_no_cut(speed: float) -> None:
    assert starts(film(scene(3), 40, speed)) == [0]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("level", [0, 255])
def test_a_flash_or_a_dropout_is_no_cut(length: int, level: int) -> None:
    frames = film(scene(4), 40)
    for k in range(15, 15 + length):
        frames[k] = np.full_like(frames[k], level)
    assert starts(frames) == [0]


def test_light_that_changes_slowly_is_no_cut() -> None:
    frames = [np.clip(f * (0.4 + k / 40), 0, 255).astype(np.uint8) for k, f in enumerate(film(scene(5), 40))]
    assert starts(frames) == [0]


def test_a_suspected_cut_includes_every_cut() -> None:
    before, after = film(scene(6))[-1], film(scene(7))[0]
    assert suspicious(signature(before), signature(after))
    assert not suspicious(signature(before), signature(before))


def test_distance_is_symmetric_and_between_0_and_1() -> None:
    signatures = [signature(scene(seed)) for seed in range(6)] + [signature(np.zeros((50, 50, 3), np.uint8))]
    for a in signatures:
        assert distance(a, a) == pytest.approx(0, abs=1e-6)
        for b in signatures:
            assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-6)
            assert 0 <= distance(a, b) + 1e-6 <= 1 + 2e-6


def test_no_frames_no_shots() -> None:
    assert shot_starts([]) == []
    assert starts([scene(1)]) == [0]
