"""Noise, samplers and the motion space."""

from __future__ import annotations

import pytest
import torch

from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.diffusion import add_noise, alphas_cumprod, clean_from, denoise

CONFIG = MotionConfig.preset("demo", 4)
SAMPLERS = ["ddim", "dpm++", "ddpm"]


def run(sampler: str, steps: int, predict, config=CONFIG, low=-9.0, high=9.0, context: int = 0, clean=0.0):
    noise = torch.randn(2, 7, 20, generator=torch.Generator().manual_seed(0))
    fixed = (torch.arange(7) < context)[None, :, None].expand(2, -1, -1)
    bound = torch.ones(2, 1, 20)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    bounds, held = (bound * low, bound * high), torch.full_like(noise, clean)
    return denoise(predict, noise, bounds, fixed, held, generators, sampler, steps, config)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_network_that_knows_the_answer_is_followed(sampler, steps):
    target = torch.linspace(-1, 1, 20).expand(2, 7, 20)
    assert torch.allclose(run(sampler, steps, lambda z, t: target), target, atol=0.05)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clean_motion_stays_within_bounds(sampler):
    out = run(sampler, 4, lambda z, t: torch.full_like(z, 5.0), low=-0.5, high=0.7)
    assert out.max() <= 0.7 + 1e-6
    assert out.min() >= -0.5 - 1e-6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_context_is_given_back_as_it_was(sampler):
    seen = []

    def predict(z, t):
        seen.append(z[:, :3].clone())
        return torch.zeros_like(z)

    out = run(sampler, 3, predict, context=3, clean=0.25)
    assert all(torch.all(z == 0.25) for z in seen)
    assert torch.all(out[:, :3] == 0.25)
    assert not torch.any(out[:, 3:] == 0.25)


def test_noise_prediction_is_turned_into_clean_motion():
    config = MotionConfig.preset("paper", 4)
    z, noise = torch.randn(3, 5, 20), torch.randn(3, 5, 20)
    alpha = alphas_cumprod(config)[torch.tensor([0, 400, 900])]
    noised = add_noise(z, noise, alpha)
    assert torch.allclose(clean_from(noise, noised, alpha, config), z, atol=1e-2)


def test_the_last_step_is_nearly_pure_noise():
    alphas = alphas_cumprod(CONFIG)
    assert alphas[-1] < 1e-4
    assert torch.all(alphas[1:] < alphas[:-1])


def test_unknown_sampler():
    with pytest.raises(ValueError, match="euler"):
        run("euler", 2, lambda z, t: z)
