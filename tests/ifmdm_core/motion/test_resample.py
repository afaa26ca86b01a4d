"""Motion at other frame rates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.motion.resample import resample_motion


def line(frames: int) -> torch.Tensor:
    """Motion that grows by 1 every second."""
    return (torch.arange(frames) / 25).double()[:, None].expand(-1, 20)


@given(st.integers(1, 120), st.integers(1, 3), st.integers(1, 120), st.integers(1, 60))
def test_counts_are_exact_and_cutting_does_not_matter(fps, seconds, frames, cut):
    frames += 25 * seconds
    total = (2 * frames * fps + 25) // 50
    motion = line(frames)
    pieces = list(resample_motion(motion.split(cut), total, fps))
    made = torch.cat(pieces) if pieces else motion[:0]
    whole = torch.cat(list(resample_motion([motion], total, fps))) if total else motion[:0]
    assert len(made) == total
    assert torch.allclose(made, whole)


@pytest.mark.parametrize("fps", [10, 24, 30, 50, 60])
def test_frames_lie_at_their_time(fps):
    made = torch.cat(list(resample_motion(line(100).split(46), 4 * fps, fps)))
    expected = (torch.arange(4 * fps) / fps).double().clamp(max=99 / 25)
    assert torch.allclose(made[:, 0], expected)


def test_model_rate_passes_through():
    motion = line(30)
    assert next(resample_motion([motion], 30, 25)) is motion
