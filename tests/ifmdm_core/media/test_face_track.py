"""Faces followed through pictures: who is the main one, from when to when, and where in every frame."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.media.face import Face, find_faces
from ifmdm_core.media.face_track import FaceFollower, Look, Run, equal_parts, main_runs
from ifmdm_core.media.image import read_image


def looks(frames: range, x: float = 0.0, size: float = 100.0, speed: float = 0.0) -> list[Look]:
    """A face of `size` pixels that moves right by `speed` pixels a frame; its mesh moves along."""
    mesh = np.zeros((478, 2), np.float32)
    return [
        Look(k, Face((x + speed * k, 50.0, size, size), mesh + np.float32(x + speed * k), 1.0))
        for k in frames
    ]


@pytest.fixture(scope="module")
def small_portrait(portrait) -> np.ndarray:
    return cv2.resize(read_image(portrait), (256, 256), interpolation=cv2.INTER_AREA)


def moved(image: np.ndarray, dx: float, dy: float = 0.0) -> np.ndarray:
    matrix = np.array([[1.0, 0, dx], [0, 1.0, dy]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def test_a_moving_face_is_one_track(small_portrait: np.ndarray) -> None:
    follower = FaceFollower(25)
    for k in range(0, 60, 5):
        follower.look(k, moved(small_portrait, 0.5 * k))
    assert [len(track) for track in follower.tracks] == [12]
    boxes = np.array([look.face.box for look in follower.tracks[0]])
    assert np.diff(boxes[:, 0]).mean() == pytest.approx(2.5, abs=0.5)


def test_a_look_again_agrees_with_a_full_search(small_portrait: np.ndarray) -> None:
    follower = FaceFollower(25)
    follower.look(0, small_portrait)
    follower.look(5, moved(small_portrait, 6))
    again = np.array(follower.tracks[0][1].face.box)
    found = np.array(find_faces(moved(small_portrait, 6))[0].box)
    assert np.abs(again - found).max() < 3


def test_a_face_that_goes_and_comes_back_later_is_another_track(small_portrait: np.ndarray) -> None:
    follower = FaceFollower(25)
    for k in range(0, 100, 5):
        follower.look(k, np.full_like(small_portrait, 90) if 30 <= k < 70 else small_portrait)
    assert [(t[0].frame, t[-1].frame) for t in follower.tracks] == [(0, 25), (70, 95)]


def test_a_face_that_jumps_is_another_track(small_portrait: np.ndarray) -> None:
    wide = cv2.copyMakeBorder(small_portrait, 0, 0, 0, 300, cv2.BORDER_REPLICATE)
    follower = FaceFollower(25)
    for k in range(0, 40, 5):
        follower.look(k, moved(wide, 250) if k >= 20 else wide)
    assert [(t[0].frame, t[-1].frame) for t in follower.tracks] == [(0, 15), (20, 35)]


def test_two_faces_are_two_tracks_and_the_larger_one_wins(small_portrait: np.ndarray) -> None:
    both = np.full((256, 512, 3), 90, np.uint8)
    both[:, :256] = small_portrait
    both[64:192, 320:448] = cv2.resize(small_portrait, (128, 128), interpolation=cv2.INTER_AREA)
    follower = FaceFollower(25)
    for k in range(0, 30, 5):
        follower.look(k, both)
    assert sorted(len(track) for track in follower.tracks) == [6, 6]
    (run,) = main_runs(follower.tracks, [0], 30, 5)
    assert run.looks[0].face.box[0] < 256


def test_a_run_reaches_to_the_end_of_its_shot() -> None:
    (run,) = main_runs([looks(range(0, 30, 5))], [0], 30, 5)
    assert (run.first, run.last) == (0, 30)


def test_a_run_ends_with_the_last_look_where_the_face_was_gone_at_the_next() -> None:
    (run,) = main_runs([looks(range(0, 30, 5))], [0], 60, 5)
    assert (run.first, run.last) == (0, 26)


def test_runs_do_not_cross_cuts() -> None:
    runs = main_runs([looks(range(0, 60, 5))], [0, 20], 60, 5)
    assert [(run.first, run.last) for run in runs] == [(0, 20), (20, 60)]


def test_who_was_there_longer_is_the_main_face_and_others_fill_the_rest() -> None:
    long, short, later = (
        looks(range(0, 60, 5)),
        looks(range(0, 20, 5), 300, 150),
        looks(range(70, 90, 5), 300),
    )
    runs = main_runs([short, later, long], [0], 90, 5)
    assert [(run.first, run.last) for run in runs] == [(0, 56), (70, 90)]


def test_boxes_and_meshes_lie_on_straight_lines_between_looks() -> None:
    run = Run(0, 12, tuple(looks(range(0, 12, 5), speed=2.0)))
    boxes, meshes = run.boxes(), run.landmarks()
    assert boxes.shape == (12, 4)
    assert np.allclose(boxes[:11, 0], 2.0 * np.arange(11))
    assert boxes[11, 0] == boxes[10, 0]  # nothing is known behind the last look
    assert meshes is not None
    assert np.allclose(meshes[:11, 7, 1], 2.0 * np.arange(11))


def test_without_meshes_there_are_no_landmarks() -> None:
    box_only = Look(0, Face((0.0, 0.0, 9.0, 9.0), np.zeros((0, 2), np.float32), 0.5))
    assert Run(0, 5, (box_only,)).landmarks() is None
    assert Run(0, 5, (box_only,)).boxes().shape == (5, 4)


@settings(max_examples=50, deadline=None)
@given(first=st.integers(0, 50), count=st.integers(1, 700), longest=st.integers(8, 250))
def test_equal_parts_cover_a_run_exactly(first: int, count: int, longest: int) -> None:
    run = Run(first, first + count, tuple(looks(range(first, first + count, 5), speed=1.0)))
    parts = equal_parts(run, longest)
    assert parts[0].first == run.first
    assert parts[-1].last == run.last
    assert all(a.last == b.first for a, b in itertools.pairwise(parts))
    lengths = [part.num_frames for part in parts]
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1
    assert np.allclose(np.concatenate([part.boxes() for part in parts]), run.boxes())
