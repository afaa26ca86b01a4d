"""Reconstruction, seams, controls, Frechet distance, identity: arithmetic with known answers."""

import numpy as np
import pytest

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.controls import hold_drift, is_monotone, spread
from ifmdm_core.metrics.frechet import frechet_distance
from ifmdm_core.metrics.identity import equal_error_rate, identity_row
from ifmdm_core.metrics.reconstruction import (
    background_speed,
    different_lips,
    gain_over_copying,
    psnr,
    region_box,
    sharpness_ratio,
)
from ifmdm_core.metrics.seams import seam_ratio

RNG = np.random.default_rng(0)
WHOLE = (slice(0, 64), slice(0, 64))


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_copying_gains_nothing_and_the_target_gains_most():
    source, target = picture(0), picture(1)
    assert gain_over_copying(source, target, source, WHOLE) == 0
    assert gain_over_copying(source, target, target, WHOLE) > 30
    half = ((source.astype(int) + target) // 2).astype(np.uint8)
    assert gain_over_copying(source, target, half, WHOLE) == pytest.approx(6.02, abs=0.1)
    with pytest.raises(BadInput):
        psnr(source, target[:32])


def test_blur_lowers_the_sharpness_ratio():
    import cv2

    target = picture()
    assert sharpness_ratio(target, target, WHOLE) == pytest.approx(1)
    assert sharpness_ratio(cv2.GaussianBlur(target, (0, 0), 2), target, WHOLE) < 0.3


def test_region_box_stays_in_the_picture_and_holds_the_ring():
    points = np.zeros((478, 3), np.float32)
    points[:3] = [(2, 5, 0), (20, 10, 0), (11, 30, 0)]
    rows, columns = region_box(points, (0, 1, 2), grow=0.5)
    assert (columns.start, rows.start) == (0, 0)
    assert columns.stop >= 20
    assert rows.stop >= 30


def test_pairs_whose_lips_differ(make_mesh):
    meshes = np.concatenate([make_mesh(gap) for gap in (0.0, 0.1, 0.3, 0.31)])
    pairs = np.array([[0, 1], [2, 3], [0, 3], [1, 2]])
    assert different_lips(meshes, pairs).tolist() == [[0, 3]]


def test_background_speed_looks_outside_the_face():
    frames = np.full((5, 64, 64, 3), 100, np.uint8)
    meshes = np.zeros((5, 478, 3), np.float32)
    meshes[:, :, 0] = np.linspace(25, 40, 478)
    meshes[:, :, 1] = np.linspace(30, 50, 478)
    frames[1::2, 35:45, 28:38] = 0
    assert background_speed(frames, meshes) == 0
    frames[1::2, :10, :10] += 50
    assert background_speed(frames, meshes) > 1


def test_seams():
    smooth = np.cumsum(RNG.standard_normal((400, 4)), 0).astype(np.float32)
    borders = range(40, 400, 40)
    ratio = seam_ratio(smooth, borders)
    assert ratio.low < 1 < ratio.high
    jumping = smooth + 8 * (np.arange(400) // 40 % 2)[:, None]
    assert seam_ratio(jumping.astype(np.float32), borders).low > 1.25
    with pytest.raises(BadInput, match="borders"):
        seam_ratio(smooth, [])


def test_controls():
    still = [RNG.standard_normal((200, 20)).astype(np.float32) * s for s in (0.05, 0.1)]
    zero = [np.zeros(20, np.float32)] * 2
    assert spread(still, zero) == pytest.approx(np.sqrt((0.05**2 + 0.1**2) / 2), rel=0.05)
    assert hold_drift(still, zero).mean < 0.15
    assert hold_drift([m + 0.1 for m in still], zero).mean > 0.9
    assert is_monotone([1, 2, 3])
    assert not is_monotone([1, 2, 2])


def test_frechet_distance_of_known_gaussians():
    a = RNG.standard_normal((20000, 4))
    b = 2 * RNG.standard_normal((20000, 4)) + np.array([3, 0, 0, 0])
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(9 + 4 * 1, rel=0.03)  # |mu|^2 + sum (1 - 2)^2
    with pytest.raises(BadInput):
        frechet_distance(a, b[:, :2])


def test_identity_is_reported_only_by_an_embedding_that_knows_people():
    people = np.repeat(np.arange(10), 8)
    centres = RNG.standard_normal((10, 16))
    good = centres[people] + 0.2 * RNG.standard_normal((80, 16))
    bad = RNG.standard_normal((80, 16))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (good, bad)]
    assert equal_error_rate(unit[0], people) < 0.05
    assert equal_error_rate(unit[1], people) == pytest.approx(0.5, abs=0.1)
    assert identity_row(unit[0][0], unit[0][:8], 0.05).startswith("0.9")
    assert "not available" in identity_row(unit[0][0], unit[0][:8], 0.3)
    assert "not available" in identity_row(unit[0][0], unit[0][:8], None)
    with pytest.raises(BadInput):
        equal_error_rate(unit[0], np.zeros(80, np.int64))
