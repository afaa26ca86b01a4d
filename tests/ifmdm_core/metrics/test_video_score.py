"""One video against the real one: equal is perfect, blur and stillness are seen."""

import cv2
import numpy as np
import pytest

from ifmdm_core.errors import NotFound
from ifmdm_core.media.face import Square
from ifmdm_core.metrics.frechet import frechet_distance
from ifmdm_core.metrics.reconstruction import ssim
from ifmdm_core.metrics.stage import VARIABLE, Clip, own_landmarker
from ifmdm_core.metrics.sync import relative_score
from ifmdm_core.metrics.video_score import Judges
from tests.talking_videos import talking_frames

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def judges():
    return Judges.load("own")


@pytest.fixture(scope="module")
def truth():
    frames = talking_frames(2, 66)
    sound = RNG.normal(0, 0.1, 66 * 640).astype(np.float32)
    return Clip("a", "people", frames, own_landmarker()(frames), sound, Square(96, 96, 192))


def test_equal_frames_score_perfectly(judges, truth):
    score = judges.score(truth, truth.meshes, truth.crops.copy(), truth.crops[0]).figures
    assert (score["psnr"], score["ssim"], score["sharpness"]) == (60.0, pytest.approx(1), 1.0)
    assert (score["r"], score["lag"], score["range"]) == (pytest.approx(1), 0, 1.0)
    assert "confidence" in score
    assert "csim" not in score


def test_blur_is_seen_by_every_picture_figure(judges, truth):
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in truth.crops])
    score = judges.score(truth, truth.meshes, blurred, truth.crops[0]).figures
    assert score["psnr"] < 40
    assert score["ssim"] < 0.97
    assert score["sharpness"] < 0.7


def test_a_video_that_ends_early_is_judged_where_it_is(judges, truth):
    score = judges.score(truth, truth.meshes, truth.crops[:30], truth.crops[0]).figures
    assert (score["frames"], score["psnr"]) == (30, 60.0)
    assert "confidence" not in score  # too short for the scorer


def test_a_still_picture_does_not_move_for_our_own_landmarker(truth):
    meshes = own_landmarker()(np.repeat(truth.crops[:1], 5, 0))
    np.testing.assert_array_equal(meshes, np.repeat(meshes[:1], 5, 0))
    assert meshes.shape == (5, 478, 3)


def test_a_landmarker_is_asked_for(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(NotFound, match="no face landmarker"):
        Judges.load()


def test_ssim_of_known_pictures():
    picture = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)) < 0.1
    brighter = np.clip(picture // 2 + 64, 0, 255).astype(np.uint8)
    assert 0.5 < ssim(picture, brighter) < 0.95  # structure stays, contrast does not


def test_frechet_distance_is_the_same_both_ways_it_is_computed():
    a, b = RNG.normal(0, 1, (30, 12)), RNG.normal(0.5, 2, (25, 12))
    wide = [np.pad(features, ((0, 0), (0, 40))) for features in (a, b)]  # more columns than rows
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_s_is_no_number_where_truth_is_no_better_than_chance():
    ours, chance = np.array([0.3, 0.2, 0.25]), np.array([0.1, 0.1, 0.1])
    assert relative_score(ours, np.array([0.5, 0.5, 0.5]), chance).value == pytest.approx(0.375)
    assert np.isnan(relative_score(ours, chance - 0.01, chance).value)
    unsure = relative_score(ours, np.array([0.9, -0.5, 0.0]), chance)  # hangs on one clip
    assert np.isnan(unsure.value)
    assert str(unsure) == "not available"
