"""Quiet audio in clips: sound, pose and lips agree on where it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput
from ifmdm_core.training.silence import SilenceEdit, close_lips, completion


@given(st.integers(16, 120), st.integers(0, 10**6))
def test_all_views_of_an_edit_have_the_same_length(num_frames, seed):
    edit = SilenceEdit.draw(np.random.default_rng(seed), num_frames)
    rows, closing = edit.rows(num_frames), edit.closing(num_frames)
    assert len(rows) == len(closing) == num_frames + edit.count
    assert rows.min() >= 0
    assert rows.max() < num_frames
    assert np.abs(np.diff(rows)).max() <= 2, "pose goes on without a jump"
    outside = np.r_[closing[: edit.at], closing[edit.at + edit.count :]]
    assert not outside.any()
    assert closing.max() == 1.0


@pytest.mark.parametrize("at", [0, 5, 20])
@pytest.mark.parametrize("level", [None, -60.0, -40.0])
def test_the_quiet_is_where_it_should_be_and_as_loud(at, level):
    speech = np.sin(np.arange(20 * 640) * 0.2).astype(np.float32)
    sound = SilenceEdit(at, 10, level, 3).audio(speech)
    assert len(sound) == 30 * 640
    quiet = sound[at * 640 : (at + 10) * 640]
    loud = np.sqrt((quiet**2).mean())
    if level is None:
        assert loud == 0
    else:
        assert 20 * np.log10(loud) == pytest.approx(level, abs=0.5)
    rest = np.r_[sound[: at * 640], sound[(at + 10) * 640 :]]
    assert np.abs(rest - speech).max() <= 1.0
    assert np.array_equal(rest[200:2000], speech[200:2000])


def test_lips_close_and_the_rest_stays():
    rng = np.random.default_rng(0)
    lip_map = np.zeros((2, 20), np.float32)
    lip_map[0, 3], lip_map[1, 4] = 4.0, 5.0
    motion = (0.2 * rng.standard_normal((12, 20))).astype(np.float32)
    closed = motion[0]
    closing = np.linspace(0, 1, 12, dtype=np.float32)
    made = close_lips(motion, closed, closing, lip_map, completion(lip_map, np.eye(20, dtype=np.float32)))
    wanted = motion @ lip_map.T + closing[:, None] * ((closed - motion) @ lip_map.T)
    assert np.allclose(made @ lip_map.T, wanted, atol=0.02)
    others = [d for d in range(20) if d not in (3, 4)]
    assert np.allclose(made[:, others], motion[:, others], atol=1e-6)


def test_lips_that_never_move_are_refused() -> None:
    with pytest.raises(BadInput, match="no lips move"):
        completion(np.zeros((3, 20), np.float32), np.eye(20, dtype=np.float32))
