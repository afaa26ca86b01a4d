"""The encoder: picture to appearance features, appearance latent and motion vector (paper 3.2, figure 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


class Encoder(nn.Module):
    """A convolutional pyramid with two heads: appearance latent w, and motion in (-1, 1) by tanh."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = (3, *config.encoder_channels)
        strides = (config.stem_stride, *(2,) * (len(config.encoder_channels) - 1))
        self.levels = nn.ModuleList(
            EncoderLevel(i, o, s, extra)
            for i, o, s, extra in zip(widths, widths[1:], strides, config.extra_convs, strict=False)
        )
        last, side = config.encoder_channels[-1], config.encoder_sides[-1]
        # Head position is part of motion, so the last map is flattened, not averaged.
        self.shrink = NormalizedConv(last, last, stride=2)
        flat = last * (side // 2) ** 2
        self.latent = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(flat, config.latent_dim))
        self.motion = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Linear(config.latent_dim, config.latent_dim),
            nn.LeakyReLU(0.1),
            nn.Linear(config.latent_dim, config.motion_dim),
        )

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Features of every level, finest first: [B, C_l, S_l, S_l]. Images are [B, 3, S, S] in [0, 1]."""
        x, features = images * 2 - 1, []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features

    def heads(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Appearance latent float32 [B, latent_dim] and motion float32 [B, motion_dim] in (-1, 1)."""
        flat = self.shrink(features[-1]).float()  # [B, C, 4, 4]
        with torch.autocast(flat.device.type, enabled=False):  # motion is float32 always
            latent = self.latent(flat)  # [B, latent_dim]
            return latent, torch.tanh(self.motion(latent))
