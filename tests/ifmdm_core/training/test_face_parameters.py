"""Face parameters follow the face and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.training.face_parameters import (
    LIPS,
    LOG_SIZE,
    POSE,
    ROLL,
    STABLE,
    FaceModel,
    align,
    mirror_landmarks,
    motion_targets,
)


@pytest.fixture(scope="module")
def model(training_folder):
    return FaceModel.load(training_folder / "face_model.npz")


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 3), st.floats(-1, 1), st.integers(0, 1000))
def test_alignment_finds_the_transform_that_was_applied(size, shift, seed):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(12, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    rotation, found, translation = align((size * shape @ turn.T + shift)[None], shape)
    np.testing.assert_allclose(rotation[0], turn, atol=1e-8)
    np.testing.assert_allclose(found[0], size, rtol=1e-8)
    np.testing.assert_allclose(translation[0], shift, atol=1e-8)


def test_mirroring_pairs_every_point_with_one_other(model):
    permutation = model.permutation
    np.testing.assert_array_equal(permutation[permutation], np.arange(478))
    assert permutation[33] == 263
    assert permutation[61] == 291


def test_mirroring_twice_changes_nothing(model, training_set):
    mesh = np.asarray(training_set.landmarks[:4])
    twice = mirror_landmarks(mirror_landmarks(mesh, model.permutation), model.permutation)
    np.testing.assert_allclose(twice, mesh, atol=1e-6)


def test_flipped_parameters_are_those_of_the_flipped_mesh(model, training_set):
    clip = training_set.clips[0]
    mesh = mirror_landmarks(np.asarray(training_set.landmarks[clip.rows]), model.permutation)
    _, _, pose = model._expressions(mesh)
    expected = (pose - model.centre[POSE]) / model.scale[POSE]
    flipped = model.flip(np.asarray(training_set.parameters[clip.rows]))
    np.testing.assert_allclose(flipped[:, POSE], expected, atol=0.05)


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.8, 1.25), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_moving_the_picture_moves_pose_only(model, training_set, turn, zoom, x, y):
    """Parameters of a moved mesh equal moved parameters: pose changes, lips do not."""
    mesh = np.array(training_set.landmarks[:5])
    offset = np.array([x, y])
    c, s = zoom * np.cos(turn), zoom * np.sin(turn)
    moved = mesh.copy()
    moved[..., :2] = (mesh[..., :2] - 0.5) @ np.array([[c, -s], [s, c]]).T + 0.5 + offset
    moved[..., 2] *= zoom
    everything = [np.arange(5)]
    scores, valid = np.asarray(training_set.blendshapes[:5]), np.ones(5, bool)
    before = model.parameters(mesh, scores, valid, everything)
    after = model.parameters(moved, scores, valid, everything)
    np.testing.assert_allclose(model.move(before, turn, zoom, offset)[:, POSE], after[:, POSE], atol=0.05)
    np.testing.assert_allclose(after[:, LIPS], before[:, LIPS], atol=0.05)
    assert np.allclose((after - before)[:, ROLL] * model.scale[ROLL], turn, atol=0.01)
    assert np.allclose((after - before)[:, LOG_SIZE] * model.scale[LOG_SIZE], np.log(zoom), atol=0.01)


def test_targets_stay_within_one_and_keep_order():
    rows = np.linspace(-6, 6, 50)[:, None].repeat(20, 1)
    motion = motion_targets(rows)
    assert np.abs(motion).max() < 1
    assert (np.diff(motion[:, 0]) > 0).all()


def test_stable_points_are_not_on_the_lips():
    from ifmdm_core.training.face_parameters import LIP_POINTS

    assert not set(STABLE) & set(LIP_POINTS)
