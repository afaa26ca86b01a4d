"""Blocks shared by the encoder, the flow fields and the generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def identity_grid(size: int, device: torch.device) -> Tensor:
    """Sampling positions of a square's pixel centres, float32 [1, size, size, 2] (x, y) in (-1, 1)."""
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1)[None]


def resize_flow(flow: Tensor, size: int) -> Tensor:
    """Flow float32 [B, 2, S, S] at another side; displacements are in units of half a picture, so unscaled."""
    if flow.shape[-1] == size:
        return flow
    if flow.shape[-1] > size:
        return F.adaptive_avg_pool2d(flow, size)
    return F.interpolate(flow, size=(size, size), mode="bilinear", align_corners=False)


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Sample features [B or 1, C, S, S] at each pixel plus its flow [B, 2, s, s]; same type out, [B, C, S, S].

    Positions are float32 always: near ±1 a bfloat16 step is half a pixel at 256 and the picture shimmers.
    """
    size = features.shape[-1]
    flow = resize_flow(flow.float(), size)  # [B, 2, S, S]
    grid = identity_grid(size, flow.device) + flow.permute(0, 2, 3, 1)  # [B, S, S, 2]
    source = features.float().expand(flow.shape[0], -1, -1, -1)
    warped = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.to(features.dtype)


class NormalizedConv(nn.Module):
    """Convolution, batch normalisation and leaky rectifier; for the once-per-picture networks."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.1)  # [B, outputs, S / stride, S / stride]


class ModulatedConv(nn.Module):
    """A residual convolution whose output channels a code scales and shifts (one code per frame).

    The whole batch goes through one ordinary convolution; modulating activations instead of weights avoids
    the per-sample grouped convolutions that make public LIA code slow.
    """

    def __init__(self, channels: int, code_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)
        self.code = nn.Linear(code_dim, 2 * channels)
        nn.init.zeros_(self.code.weight)
        nn.init.zeros_(self.code.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        gain, shift = self.code(code)[:, :, None, None].to(x.dtype).chunk(2, 1)  # [B, C, 1, 1]
        return x + F.leaky_relu(self.conv(x) * (1 + gain) + shift, 0.1)  # [B, C, S, S]
