"""An open mouth starts closed, by the caller's hand or by the sampler's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ifmdm_core.controls import RenderControls
from ifmdm_core.motion import MotionSampler, WindowRequest
from ifmdm_core.motion.mouth import closed_mouth

OPEN = torch.zeros(20)
OPEN[2], OPEN[3] = 0.4, 0.05  # opening 4 below


@pytest.fixture
def wide(build_generator):
    """A generator whose second motion axis opens the mouth by 10 a unit."""
    model = build_generator()
    model.lip_map[0], model.lip_bias[0] = 0.0, 0.0
    model.lip_map[0, 2] = 10.0
    return model


def test_an_open_mouth_closes_down_to_the_limit(wide):
    moved = closed_mouth(wide, OPEN, 1.0)
    assert moved[2].item() == pytest.approx(0.1, abs=1e-4)
    assert torch.allclose(moved[3:], OPEN[3:], atol=1e-4)
    assert torch.allclose(closed_mouth(wide, moved, 1.0), moved, atol=1e-6), "closing again changes nothing"
    gentle = 0.1 * OPEN
    assert torch.equal(closed_mouth(wide, gentle, 1.0), gentle)
    assert torch.equal(closed_mouth(wide, OPEN, None), OPEN)


def test_a_sampler_with_a_limit_closes_what_it_is_given(wide):
    request = WindowRequest(torch.randn(20, 6), OPEN, controls=RenderControls(steps=2))
    limited = MotionSampler(wide, mouth_limit=1.0).sample_window(request)
    plain = MotionSampler(wide)
    closed = plain.sample_window(replace(request, hint=closed_mouth(wide, OPEN, 1.0)))
    assert torch.equal(limited, closed)
    assert not torch.allclose(limited, plain.sample_window(request), atol=1e-2)
