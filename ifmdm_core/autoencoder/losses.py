"""Losses of stage 1 (paper 3.2; model of LIA's family) on pictures [N, 3, S, S] in [0, 1], one value a picture: [N].

A batch that is spread over processes needs its pictures weighted by counts of the whole batch; `.mean()` otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def pyramid_l1(output: Tensor, target: Tensor, levels: int = 4) -> Tensor:
    """Mean absolute difference averaged over `levels` halvings of the pictures."""
    total = output.new_zeros(len(output))
    for _ in range(levels):
        total = total + _mean((output - target).abs())
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return total / levels


def gradient_l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical derivatives; keeps edges sharp."""
    difference = output - target
    across = (difference[..., 1:] - difference[..., :-1]).abs()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs()
    return _mean(across) + _mean(down)


def region(pictures: Tensor, points: Tensor, side: int, margin: float) -> Tensor:
    """Cut the bounding square of points [N, K, 2] (crop coordinates), `margin` times as large: [N, C, side, side]."""
    low, high = points.amin(1), points.amax(1)  # [N, 2]
    centre, half = (low + high) - 1, (high - low).amax(1, keepdim=True) * margin  # in [-1, 1] units
    axis = torch.linspace(-1, 1, side, device=pictures.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = centre[:, None, None] + half[:, None, None] * torch.stack([x, y], -1)[None]
    return F.grid_sample(pictures.float(), grid, align_corners=False, padding_mode="border")


def mesh_flow_l1(flow: Tensor, target_mesh: Tensor, source_mesh: Tensor, weights: Tensor) -> Tensor:
    """How far the flow [N, 2, s, s] misses the mesh's displacement, in half pictures, weighted by point [K].

    The flow is backward: at a target point [N, K, 2] it must point to where that point is in the source. Points
    outside the picture do not count; 0 for a face that is wholly outside.
    """
    sampled = F.grid_sample(flow, target_mesh[:, None] * 2 - 1, align_corners=False, padding_mode="border")
    missing = sampled[:, :, 0].transpose(1, 2) - (source_mesh - target_mesh) * 2  # [N, K, 2]
    counted = ((target_mesh > 0) & (target_mesh < 1)).all(-1) * weights  # [N, K]
    return (missing.abs().sum(-1) * counted).sum(1) / counted.sum(1).clamp(min=1e-6)


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of patch scores [N, 1, s, s] for the discriminator."""
    return _mean(F.relu(1 - real)) + _mean(F.relu(1 + fake))


def hinge_generator(fake: Tensor) -> Tensor:
    """Hinge loss of patch scores [N, 1, s, s] for the generator."""
    return -_mean(fake)


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's features; `real` is detached here."""
    return torch.stack([_mean((r.detach() - f).abs()) for r, f in zip(real, fake, strict=True)]).mean(0)


def r1_penalty(scores: Sequence[Tensor], real: Tensor) -> Tensor:
    """Squared gradient of the scores at real pictures, which must require gradients (Mescheder et al. 2018)."""
    total = torch.stack([s.float().sum() for s in scores]).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


def _mean(values: Tensor) -> Tensor:
    """Mean of each picture, float32 [N]."""
    return values.float().flatten(1).mean(1)
