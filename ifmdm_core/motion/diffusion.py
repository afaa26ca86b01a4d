"""Noise schedule and samplers: diffusers' schedulers over a linear fixed beta (paper 3.1 leaves beta open).

The network predicts either clean z or the noise. We form clean z ourselves, clamp it so that m stays inside (-1, 1) in
every dimension, and hand it to the scheduler as `sample` prediction: no scheduler can then leave the motion space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ifmdm_core.motion.config import MotionConfig

LIMIT = 1.0 - 1e-4
"""|m| never exceeds this."""


def alphas_cumprod(config: MotionConfig) -> Tensor:
    """[T] signal power by time step."""
    betas = torch.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=torch.float64)
    return torch.cumprod(1.0 - betas, dim=0).float()


def add_noise(z: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """z, noise [B, N, 20], alpha_bar [B] -> noised z [B, N, 20]."""
    a = alpha_bar[:, None, None]
    return a.sqrt() * z + (1.0 - a).sqrt() * noise


def clean_from(prediction: Tensor, z: Tensor, alpha_bar: Tensor, config: MotionConfig) -> Tensor:
    """The network's prediction at noised z -> its clean z, [B, N, 20] each; alpha_bar [B]."""
    if config.prediction == "sample":
        return prediction
    a = alpha_bar[:, None, None]
    return (z - (1.0 - a).sqrt() * prediction) / a.sqrt()


def scheduler_for(sampler: str, steps: int, config: MotionConfig) -> Any:
    """A diffusers scheduler with its time steps set; it keeps state, so one is made for each window."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    common: dict[str, Any] = {
        "num_train_timesteps": config.timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": "linear",
        "prediction_type": "sample",
        # Few steps must begin at T - 1, where the start really is pure noise.
        "timestep_spacing": "trailing",
    }
    if sampler == "ddim":
        scheduler: Any = DDIMScheduler(clip_sample=False, **common)
    elif sampler == "ddpm":
        scheduler = DDPMScheduler(clip_sample=False, **common)
    elif sampler == "dpm++":
        scheduler = DPMSolverMultistepScheduler(solver_order=2, algorithm_type="dpmsolver++", **common)
    else:
        raise ValueError(f"no sampler {sampler!r}; valid: ddim, dpm++, ddpm")
    scheduler.set_timesteps(steps)
    return scheduler


def denoise(
    predict: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    bounds: tuple[Tensor, Tensor],
    fixed: Tensor,
    clean: Tensor,
    generators: Sequence[torch.Generator],
    sampler: str,
    steps: int,
    config: MotionConfig,
    steer: Callable[[Tensor], Tensor] = lambda z: z,
) -> Tensor:
    """Runs one sampler from `noise` [B, N, 20] to clean z [B, N, 20].

    Args:
        predict: (z [B, N, 20], t [B]) -> the network's guided prediction [B, N, 20].
        bounds: lowest and highest z, [B, 1, 20] each.
        fixed: [B, N, 1] bool, context frames; `clean` [B, N, 20] holds their z, put back before every step.
        generators: one per window, for samplers that add noise.
        steer: changes each step's clean z [B, N, 20], before it is clamped.
    """
    scheduler = scheduler_for(sampler, steps, config)
    alphas = alphas_cumprod(config).to(noise)
    low, high = bounds
    z = noise
    for t in scheduler.timesteps:
        step = int(t)
        z = torch.where(fixed, clean, z)
        time = torch.full((len(z),), step, device=z.device)
        start = steer(clean_from(predict(z, time), z, alphas[time], config))
        start = torch.where(fixed, clean, start.maximum(low).minimum(high))
        extra = {} if sampler == "ddim" else {"generator": list(generators)}
        z = scheduler.step(start, step, z, **extra).prev_sample
    return torch.where(fixed, clean, z.maximum(low).minimum(high))
