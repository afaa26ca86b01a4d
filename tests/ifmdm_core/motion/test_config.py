"""Presets and checks of the motion generator's shape."""

from __future__ import annotations

import pytest

from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.transformer import MotionGenerator


def test_demo_has_about_three_million_parameters():
    count = sum(p.numel() for p in MotionGenerator(MotionConfig.preset("demo")).parameters())
    assert 2.5e6 < count < 4e6


def test_paper_preset_is_the_papers():
    config = MotionConfig.preset("paper")
    assert (config.width, config.depth, config.heads) == (512, 8, 8)
    assert (config.window, config.context, config.prediction) == (80, 10, "epsilon")


@pytest.mark.parametrize(("field", "value"), [("heads", 5), ("context", 46)])
def test_a_shape_that_does_not_fit_is_refused(field, value):
    values = MotionConfig.preset("demo").model_dump() | {field: value}
    with pytest.raises(ValueError, match=str(value)):
        MotionConfig(**values)


def test_unknown_preset():
    with pytest.raises(ValueError, match="huge"):
        MotionConfig.preset("huge")
