from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from ifmdm_core.media.face import SCALE, Face, Square, choose_face, clip_square, crop, crop_square, paste_back

numbers = st.floats(-300, 600)
squares = st.builds(Square, numbers, numbers, st.floats(2, 400))
pictures = st.tuples(st.integers(64, 200), st.integers(64, 200), st.integers(0, 2**32 - 1)).map(
    lambda p: np.random.default_rng(p[2]).integers(0, 256, (p[0], p[1], 3), np.uint8)
)


def face(x: float, y: float, w: float, h: float) -> Face:
    return Face((x, y, w, h), np.zeros((478, 2), np.float32), 1.0)


@settings(deadline=None, max_examples=40)
@given(squares)
def test_snapping_moves_a_square_by_less_than_a_pixel_and_only_once(square: Square) -> None:
    snapped = square.snapped()
    assert snapped.x0 == int(snapped.x0)
    assert snapped.y0 == int(snapped.y0)
    assert abs(snapped.side - square.side) <= 0.5
    assert abs(snapped.cx - square.cx) <= 0.75
    assert abs(snapped.cy - square.cy) <= 0.75
    assert snapped.snapped() == snapped


@settings(deadline=None, max_examples=40)
@given(squares, st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_unit_coordinates_come_back(square: Square, points: list[tuple[float, float]]) -> None:
    pixels = np.array(points, np.float32)
    np.testing.assert_allclose(square.to_pixels(square.to_unit(pixels)), pixels, atol=1e-2)
    np.testing.assert_allclose(square.to_unit(np.array([[square.x0, square.cy]])), [[0, 0.5]], atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.tuples(numbers, numbers, st.floats(5, 300), st.floats(5, 300)))
def test_the_crop_square_is_centred_and_scaled(box: tuple[float, float, float, float]) -> None:
    square = crop_square(box)
    assert abs(square.side - SCALE * max(box[2:])) <= 0.5
    assert abs(square.cx - (box[0] + box[2] / 2)) <= 0.75
    assert abs(square.cy - (box[1] + box[3] / 2)) <= 0.75


def test_a_still_clip_has_the_square_of_its_face() -> None:
    box = (40.0, 50.0, 80.0, 100.0)
    assert clip_square(np.array([box] * 7)) == crop_square(box)


def test_a_moving_clip_widens_its_square_and_ignores_outliers() -> None:
    boxes = np.array([(float(x), 50.0, 80.0, 100.0) for x in range(40, 61)])
    boxes = np.concatenate([boxes, [[500.0, 50.0, 80.0, 100.0]]])  # one wild detection in 22
    square = clip_square(boxes)
    assert 89 <= square.cx <= 93
    assert 175 + 0.5 * 17 <= square.side <= 175 + 0.5 * 21


@settings(deadline=None, max_examples=25)
@given(pictures, squares)
def test_crop_cuts_what_numpy_cuts_and_repeats_the_edge(image: np.ndarray, square: Square) -> None:
    square = square.snapped()
    side = int(square.side)
    rows = np.clip(np.arange(int(square.y0), int(square.y0) + side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(int(square.x0), int(square.x0) + side), 0, image.shape[1] - 1)
    np.testing.assert_array_equal(crop(image, square, side), image[rows][:, columns])


def test_a_landmark_keeps_its_place_through_crop_and_resize() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[90:110, 140:160] = 255  # middle at (150, 100)
    square = Square(160, 90, 120)
    small = crop(image, square, 64).mean(2)
    rows, columns = np.mgrid[:64, :64] + 0.5
    middle = np.array([(columns * small).sum(), (rows * small).sum()]) / small.sum()
    np.testing.assert_allclose(middle / 64, square.to_unit(np.array([150.0, 100.0])), atol=2e-3)


@settings(deadline=None, max_examples=25)
@given(pictures, squares)
def test_pasting_back_what_was_cut_changes_nothing(image: np.ndarray, square: Square) -> None:
    cut = crop(image, square, int(square.snapped().side))
    np.testing.assert_allclose(paste_back(image, square, cut).astype(int), image.astype(int), atol=1)


@settings(deadline=None, max_examples=25)
@given(pictures, squares)
def test_paste_back_leaves_the_rest_alone(image: np.ndarray, square: Square) -> None:
    square = square.snapped()
    side = int(square.side)
    before = image.copy()
    pasted = paste_back(image, square, np.zeros((side, side, 3), np.uint8))
    np.testing.assert_array_equal(image, before)  # a copy, not the picture itself
    outside = np.ones(image.shape[:2], bool)
    x0, y0 = int(square.x0), int(square.y0)
    outside[max(0, y0) : max(0, y0 + side), max(0, x0) : max(0, x0 + side)] = False
    np.testing.assert_array_equal(pasted[outside], image[outside])


def test_paste_back_replaces_the_middle_and_fades_at_the_edge() -> None:
    image = np.full((300, 300, 3), 200, np.uint8)
    pasted = paste_back(image, Square(150, 150, 200), np.zeros((64, 64, 3), np.uint8))[150, :, 0].astype(int)
    assert pasted[150] == 0
    assert pasted[50] == 200  # the outermost pixel is the picture's
    assert (np.diff(pasted[50:76]) <= 0).all()
    assert np.abs(np.diff(pasted)).max() < 20  # no visible border


def test_paste_back_does_not_fade_where_the_picture_ends() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    pasted = paste_back(image, Square(50, 50, 140), np.zeros((140, 140, 3), np.uint8))
    assert pasted.max() == 0


def test_the_largest_face_is_taken_and_said_so() -> None:
    choice = choose_face([face(0, 0, 90, 90), face(200, 0, 50, 50)], "auto", name="two.jpg")
    assert choice.face is not None
    assert choice.face.box[2] == 90
    assert "2 faces" in choice.note
    assert "--face 1" in choice.note
    assert choose_face([face(0, 0, 90, 90)], "auto").note == ""


def test_a_face_is_chosen_by_its_number() -> None:
    faces = [face(0, 0, 90, 90), face(200, 0, 50, 50)]
    assert choose_face(faces, 1).face is faces[1]
    with pytest.raises(BadInput, match=r"two\.jpg: no face 2; .*--face 0 to 1"):
        choose_face(faces, 2, name="two.jpg")


def test_no_face_offers_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"cat\.jpg: no face found; .*--face x,y,w,h.*--face none"):
        choose_face([], "auto", name="cat.jpg")
    with pytest.raises(BadInput, match="no face found"):
        choose_face([], 0)


def test_a_box_by_hand_needs_no_finder() -> None:
    assert choose_face([], (10, 20, 100, 80), size=(300, 200)).square == crop_square((10, 20, 100, 80))


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 10), (0, 0, 10, -1), (1, 2, 3), (float("nan"), 0, 5, 5), (400, 0, 50, 50), (0, 0, 5000, 5000)],
)
def test_an_impossible_box_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match=r"me\.png"):
        choose_face([], box, size=(300, 200), name="me.png")


def test_none_takes_the_middle_of_the_picture() -> None:
    assert choose_face([], "none", size=(300, 200)).square == Square(150, 100, 200)
