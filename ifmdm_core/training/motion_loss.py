"""The loss of stage 2 (paper 3.3): what the network predicts, and lips, so that head pose does not drown them."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ifmdm_core.motion.diffusion import add_noise, clean_from
from ifmdm_core.motion.transformer import MotionGenerator
from ifmdm_core.training.motion_statistics import LossScales
from ifmdm_core.training.motion_windows import MotionBatch


class MotionLossWeights(BaseModel):
    """Terms are mean squares over new frames, each divided by the variance of what it compares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    velocity: float = Field(0.3, ge=0, description="weight of the frame-to-frame change of z")
    lips: float = Field(1.0, ge=0, description="weight of lip measurements, by the lip map")
    lip_velocity: float = Field(0.5, ge=0, description="weight of their frame-to-frame change")


def motion_loss(
    model: MotionGenerator,
    batch: MotionBatch,
    alphas: Tensor,
    scales: LossScales,
    weights: MotionLossWeights,
    frames: Tensor | None = None,
) -> dict[str, Tensor]:
    """Loss and its parts, each divided by the number of new frames.

    Args:
        alphas: [T], signal power by time step. For a model that predicts noise, terms on clean z are weighted by it:
            there clean z is the prediction amplified by up to 1 / sqrt(alpha).
        frames: new frames to divide by, where this batch is a part of a larger one; None: its own.
    """
    given, config = batch.given, model.config
    alpha = alphas[batch.t]  # [B]
    context = given.context[..., None]  # [B, N, 1]
    noised = torch.where(context, batch.z, add_noise(batch.z, batch.noise, alpha))  # [B, N, 20]
    prediction = model(noised, batch.t, given, batch.dropout()).float()  # [B, N, 20]
    target = batch.z if config.prediction == "sample" else batch.noise
    new = (given.valid & ~given.context)[..., None].float()  # [B, N, 1]
    frames = new.sum() if frames is None else frames
    base = ((prediction - target) ** 2 * new).sum() / (frames * target.shape[-1])

    clean = clean_from(prediction, noised, alpha, config)
    error = (
        torch.where(context, torch.zeros_like(clean), clean - batch.z) * given.valid[..., None]
    )  # [B, N, 20]
    weight = torch.ones_like(alpha) if config.prediction == "sample" else alpha
    lip_error = (error * model.offset_std) @ model.lip_map.T  # [B, N, L]

    def mean_square(value: Tensor, mask: Tensor) -> Tensor:
        return (value**2 * mask * weight[:, None, None]).sum() / (frames * value.shape[-1])

    moves = new[:, 1:]  # a change counts when its later frame is new
    parts = {
        "velocity": mean_square(error[:, 1:] - error[:, :-1], moves) / scales.velocity,
        "lips": mean_square(lip_error, new) / scales.lips,
        "lip_velocity": mean_square(lip_error[:, 1:] - lip_error[:, :-1], moves) / scales.lip_velocity,
    }
    total = base + sum(getattr(weights, name) * value for name, value in parts.items())
    return {"loss": total, "base": base, **parts}
