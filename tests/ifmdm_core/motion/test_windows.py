"""Cutting motion of any length into windows, and fusing them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.windows import blend, plan_windows

DEMO = MotionConfig.preset("demo", 4)


@given(st.integers(0, 2000), st.sampled_from([DEMO, MotionConfig.preset("paper", 4)]))
def test_every_frame_is_finished_exactly_once(num_frames, config):
    done = 0
    for number, window in enumerate(plan_windows(num_frames, config)):
        assert window.index == number
        assert window.first == done, "new frames begin where finished ones end"
        assert window.context == min(config.context, done)
        assert window.last - window.first + window.context <= config.window
        assert window.first < window.finished <= window.last
        done = window.finished
    assert done == num_frames


def test_a_full_window_leaves_the_overlap_to_the_next():
    first, second = plan_windows(80, DEMO)
    assert (first.first, first.last, first.finished) == (0, 50, 46)
    assert (second.context, second.first, second.last) == (10, 46, 80)


def test_blend_is_a_ramp_between_both():
    old, new = torch.zeros(3, 20), torch.ones(5, 20)
    assert torch.allclose(blend(old, new)[:, 0], torch.tensor([0.25, 0.5, 0.75, 1.0, 1.0]))
    assert torch.equal(blend(old[:0], new), new)
    assert len(blend(old, new[:2])) == 2
