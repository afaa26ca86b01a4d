"""Meshes in head coordinates: pose, size and place are gone, lips are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.mouth import LIPS, align_heads, jaw_opening, lip_points, mouth_pictures


def turned(points: np.ndarray, yaw: float, roll: float, scale: float, shift: float) -> np.ndarray:
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return (scale * points @ (about_z @ about_y).T + shift).astype(np.float32)


@given(st.floats(-0.7, 0.7), st.floats(-1, 1), st.floats(20, 300), st.floats(-50, 400))
def test_pose_size_and_place_are_taken_out(make_mesh, yaw, roll, scale, shift):
    points = make_mesh()
    np.testing.assert_allclose(
        align_heads(turned(points, yaw, roll, scale, shift)), align_heads(points), atol=2e-3
    )


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.3])
def test_the_gap_is_in_eye_distances(make_mesh, gap):
    assert jaw_opening(turned(make_mesh(gap), 0.3, -0.2, 90, 128))[0] == pytest.approx(gap, abs=1e-3)


def test_lip_points_are_the_forty(make_mesh):
    assert lip_points(make_mesh()).shape == (1, 40, 2)
    assert len(set(LIPS)) == 40


@pytest.mark.parametrize("bad", [np.zeros((2, 68, 2)), np.full((1, 478, 3), np.nan)])
def test_unusable_meshes(bad):
    with pytest.raises(BadInput):
        align_heads(bad.astype(np.float32))


def test_mouth_pictures_follow_the_head(make_mesh):
    """A white dot at the mouth stays in place whatever the turn and size of the head."""
    found = []
    for roll, scale in [(0.0, 80.0), (0.4, 80.0), (-0.3, 60.0)]:
        points = turned(make_mesh(), 0.0, roll, scale, 128.0)
        dot = np.array([0.0, 0.85, 0.0])
        at = turned(dot[None], 0.0, roll, scale, 128.0)[0, :2]
        picture = np.zeros((256, 256, 3), np.uint8)
        x, y = at.round().astype(int)
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
        mouths = mouth_pictures([picture] * 5, np.repeat(points, 5, 0))
        assert mouths.shape == (5, 64, 96)
        rows, columns = np.nonzero(mouths[2] > 100)
        found.append((rows.mean(), columns.mean()))
    assert np.ptp(np.array(found), axis=0).max() < 1.5
    assert found[0][1] == pytest.approx(48, abs=1.5)
