"""Layers that look beyond one sample, made the same whatever number of processes a batch is spread over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ifmdm_core.training.world import World


class SampleDropout(nn.Module):
    """Dropout whose masks are drawn with the samples, so they depend on neither ranks nor batches."""

    def __init__(self, rate: float, width: int) -> None:
        super().__init__()
        self.rate, self.width = rate, width
        self.kept: Tensor | None = None
        """Bool [N, width], of the N rows that come next."""

    def forward(self, x: Tensor) -> Tensor:  # [N, width] -> the same
        if not self.training:
            return x
        assert self.kept is not None
        return x * self.kept / (1 - self.rate)

    def draw(self, rng: np.random.Generator, views: int) -> NDArray[np.bool_]:
        """Masks [views, width] of a sample of which so many rows pass through."""
        return rng.random((views, self.width), np.float32) >= self.rate


def sample_dropout(module: nn.Module) -> dict[str, SampleDropout]:
    """Put `SampleDropout` in the place of every dropout before a linear layer; returns them by name."""
    found: dict[str, SampleDropout] = {}
    for name, block in module.named_modules():
        if not isinstance(block, nn.Sequential):
            continue
        for index, layer in enumerate(block):
            if isinstance(layer, nn.Dropout):
                following = block[index + 1]
                assert isinstance(following, nn.Linear)
                found[f"{name}.{index}"] = SampleDropout(layer.p, following.in_features)
                block[index] = found[f"{name}.{index}"]
    return found


def give_masks(layers: Mapping[str, SampleDropout], masks: Mapping[str, Tensor]) -> None:
    """Hand every layer its masks, bool [N, views, width], for a batch of `views` times N rows, view by view."""
    for name, layer in layers.items():
        layer.kept = masks[name].transpose(0, 1).flatten(0, 1)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the pictures of all processes; PyTorch's own exists for CUDA only."""

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.world = world

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> the same
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        # Sums are taken around the running mean: the same everywhere, and near enough for float32.
        away = x.float() - self.running_mean[:, None, None]  # [N, C, H, W]
        count = away.new_tensor([away.numel() // len(self.running_mean)])
        sums = torch.cat([away.sum((0, 2, 3)), away.square().sum((0, 2, 3)), count])  # [2 C + 1]
        total = _SumOverProcesses.apply(sums, self.world)
        mean, square = (total[:-1] / total[-1]).chunk(2)
        variance = square - mean.square()
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean += self.momentum * mean
            unbiased = variance * (total[-1] / (total[-1] - 1))
            self.running_var.lerp_(unbiased, self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (
            (away - mean[:, None, None]).mul(scale[:, None, None]).add(self.bias[:, None, None]).to(x.dtype)
        )


class _SumOverProcesses(torch.autograd.Function):
    """A sum that every process uses: its gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx, values: Tensor, world: World) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.world = world
        return world.sum(values)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def,override]
        return ctx.world.sum(gradient), None


def share_statistics(module: nn.Module, world: World, device: torch.device) -> None:
    """Make every batch normalisation in `module` one over all processes, in place; parameters stay the same objects."""
    if world.size == 1:
        return
    for block in list(module.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                if device.type == "cuda":
                    shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(child)
                else:
                    shared = SharedBatchNorm(child, world)
                    shared.weight, shared.bias = child.weight, child.bias
                setattr(block, name, shared)
