"""Lip measures on tracks with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from ifmdm_core.metrics.lips import (
    bilabial_closures,
    compare,
    correlation,
    cross_audio_r,
    delay,
    explained_by_audio,
    lip_range,
)


def speechlike(frames=100, seed=0):
    rng = np.random.default_rng(seed)
    return np.convolve(rng.standard_normal(frames + 4), np.ones(5) / 5, "valid").astype(np.float32)


@given(st.integers(-8, 8))
def test_a_late_copy_has_its_lag(lag):
    whole = speechlike(140)
    truth, ours = whole[20:120], whole[20 - lag : 120 - lag]
    match = compare(ours, truth)
    assert match.lag == lag
    if lag == 0:
        assert match.r == pytest.approx(1)
        assert match.distance == pytest.approx(0, abs=1e-6)


def test_a_still_mouth_is_at_distance_one_and_uncorrelated():
    match = compare(np.zeros(100, np.float32), speechlike())
    assert match.distance == pytest.approx(1, abs=1e-3)
    assert match.r == 0


def test_tracks_must_fit():
    with pytest.raises(BadInput):
        compare(np.zeros(30), np.zeros(31))
    with pytest.raises(BadInput):
        compare(np.zeros(15), np.zeros(15))


def test_range_ignores_outliers():
    track = np.linspace(0, 1, 101)
    track[50] = 30
    assert lip_range(track) == pytest.approx(0.9, abs=0.02)


def test_variance_explained_by_audio():
    audio = np.stack([speechlike(seed=i) for i in range(5)])  # [5, T]
    rng = np.random.default_rng(9)
    noise = rng.standard_normal((5, 5, 100)).astype(np.float32)
    assert explained_by_audio(np.repeat(audio[:, None], 5, 1)) == pytest.approx(1)
    assert explained_by_audio(noise) < 0.1
    equal = audio[:, None] / audio.std() + noise / noise.std()
    assert explained_by_audio(equal) == pytest.approx(0.5, abs=0.12)
    with pytest.raises(BadInput):
        explained_by_audio(noise[:1])


def test_lips_that_ignore_the_audio_show_across_audios():
    assert cross_audio_r(np.repeat(speechlike()[None], 4, 0)) == pytest.approx(1)
    assert abs(cross_audio_r(np.stack([speechlike(400, seed=i) for i in range(6)]))) < 0.2


def test_delay_of_a_prepended_pause():
    track = speechlike(90)
    late = np.concatenate([np.full(10, track.mean(), np.float32), track])
    assert delay(track, late) == 10
    assert correlation(track, late[10:]) == pytest.approx(1)


def test_bilabials_in_time_and_out_of_time():
    times = np.array([0.5, 1.1, 1.7, 2.3])
    frames = np.arange(75) / 25
    track = 0.2 - 0.2 * np.exp(-(((frames[:, None] - times) / 0.06) ** 2)).sum(1)
    found = bilabial_closures(track.astype(np.float32), times)
    assert (found.closed, found.total) == (4, 4)
    assert found.chance < 0.4
    assert bilabial_closures(track.astype(np.float32), times + 0.3).closed == 0
    assert bilabial_closures(np.zeros(75, np.float32), times).closed == 0  # never moving is no closing
