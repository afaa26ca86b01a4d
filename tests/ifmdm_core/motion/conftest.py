"""A tiny generator whose outputs depend on everything (nothing is left at its zero initialisation)."""

from __future__ import annotations

import pytest
import torch

from ifmdm_core.motion import MotionConfig, MotionGenerator


def build(prediction: str = "sample", **changes: object) -> MotionGenerator:
    values = {
        "speech_dim": 6, "width": 16, "depth": 2, "heads": 2, "prediction": prediction, "window": 30,
        "context": 6, "overlap": 3, "min_window": 10, "dropout": 0.1,
    }  # fmt: skip
    torch.manual_seed(0)
    model = MotionGenerator(MotionConfig(**(values | changes)))
    for parameter in model.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="session")
def generator() -> MotionGenerator:
    return build()


@pytest.fixture(scope="session")
def build_generator():
    return build
