"""The encoders: picture to appearance features and latent, picture to motion vector (paper 3.2, figure 4).

The paper draws one encoder with two outputs. Here motion has its own small tower: it is the only part that must run on
every frame of a dataset, it is taught before the rest, and it can be frozen while the generator still improves.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.autoencoder.config import AutoencoderConfig
from ifmdm_core.autoencoder.layers import NormalizedConv


class EncoderLevel(nn.Module):
    """One resolution: a convolution that may halve the side, then optionally a residual one."""

    def __init__(self, inputs: int, outputs: int, stride: int, extra: bool) -> None:
        super().__init__()
        self.down = NormalizedConv(inputs, outputs, stride=stride)
        self.extra = NormalizedConv(outputs, outputs) if extra else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)  # [B, outputs, S / stride, S / stride]
        return x if self.extra is None else x + self.extra(x)


class AppearanceEncoder(nn.Module):
    """A convolutional pyramid: appearance tensors A_l and the appearance latent w of a portrait."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = (3, *config.encoder_channels)
        strides = (config.stem_stride, *(2,) * (len(config.encoder_channels) - 1))
        self.levels = nn.ModuleList(
            EncoderLevel(i, o, s, extra)
            for i, o, s, extra in zip(widths, widths[1:], strides, config.extra_convs, strict=False)
        )
        last, side = config.encoder_channels[-1], config.encoder_sides[-1]
        self.shrink = NormalizedConv(last, last, stride=2)
        flat = last * (side // 2) ** 2
        self.latent = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(flat, config.latent_dim))

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features of every level, finest first [B, C_l, S_l, S_l], and w float32 [B, latent_dim].

        Images are [B, 3, S, S] in [0, 1].
        """
        x, features = images * 2 - 1, []
        for level in self.levels:
            x = level(x)
            features.append(x)
        flat = self.shrink(x).float()
        with torch.autocast(flat.device.type, enabled=False):
            return features, self.latent(flat)


class MotionEncoder(nn.Module):
    """Picture to motion vector. Half the side is enough for it, so frames are read four times as fast.

    Head position is part of motion, so the last map is flattened, not averaged.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.size = config.motion_size
        widths = (3, *config.motion_channels)
        self.levels = nn.Sequential(*(EncoderLevel(i, o, 2, i > 3) for i, o in pairwise(widths)))
        side = config.motion_size >> len(config.motion_channels)
        self.latent = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(widths[-1] * side**2, config.latent_dim),
            nn.LeakyReLU(0.1),
        )
        self.motion = nn.Linear(config.latent_dim, config.motion_dim)

    def hidden(self, images: Tensor) -> Tensor:
        """What motion is read from, float32 [B, latent_dim], of pictures [B, 3, S, S] in [0, 1]."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="area")
        flat = self.levels(images.contiguous(memory_format=torch.channels_last) * 2 - 1).float()
        with torch.autocast(flat.device.type, enabled=False):
            return self.latent(flat)

    def forward(self, images: Tensor) -> Tensor:
        """Motion float32 [B, motion_dim] in (-1, 1)."""
        hidden = self.hidden(images)
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.tanh(self.motion(hidden))
