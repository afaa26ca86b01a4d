"""The generator: warps the portrait's features and pixels, then paints what warping cannot show (paper 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.autoencoder.config import AutoencoderConfig
from ifmdm_core.autoencoder.layers import ModulatedConv, warp

MASK_BIAS = -2.0
"""The painted share starts at 12 % everywhere, so frames start as the warped portrait."""


class PaintLevel(nn.Module):
    """One resolution of painting: takes in the warped features of that side, then convolves twice."""

    def __init__(self, inputs: int, skip: int, outputs: int, code_dim: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(inputs + skip, outputs, 1)
        self.convs = nn.ModuleList(ModulatedConv(outputs, code_dim) for _ in range(2))

    def forward(self, x: Tensor | None, skip: Tensor, code: Tensor) -> Tensor:
        x = self.merge(skip if x is None else torch.cat([x, skip], 1))  # [n, outputs, S, S]
        for conv in self.convs:
            x = conv(x, code)
        return x


class Generator(nn.Module):
    """Frames from a portrait's features, its pixels, a flow and a motion code."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, dim = config.generator_channels, config.latent_dim
        start = config.size // 2 ** len(widths)
        sides = [start * 2**level for level in range(len(widths))]
        self.skips = [config.encoder_sides.index(side) for side in sides[:-1]]
        skips = [config.encoder_channels[level] for level in self.skips]
        self.code = nn.Sequential(nn.Linear(2 * dim, dim), nn.LeakyReLU(0.1))
        self.levels = nn.ModuleList(
            PaintLevel(i, s, o, dim) for i, s, o in zip((0, *widths), skips, widths[:-1], strict=False)
        )
        self.rise = nn.Conv2d(widths[-2], 4 * widths[-1], 1)
        # The finest level works at half the side; the warped portrait enters it as 2 x 2 pixel blocks.
        self.finest = nn.Conv2d(widths[-1] + 12, widths[-1], 3, 1, 1)
        self.paint = nn.Conv2d(widths[-1], 16, 3, 1, 1)
        nn.init.zeros_(self.paint.weight)
        if self.paint.bias is not None:
            nn.init.zeros_(self.paint.bias[:12])
            nn.init.constant_(self.paint.bias[12:], MASK_BIAS)

    def forward(
        self, features: list[Tensor], image: Tensor, flow: Tensor, code: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Frames and the warped portrait, both [n, 3, S, S] in [0, 1].

        `features` [1 or n, C_l, S_l, S_l], `image` [1 or n, 3, S, S], `flow` [n, 2, s, s], `code` Qm and
        `offset` Q(m − m^i) [n, latent_dim]. Output = (1 − α) warped + α painted with painted = warped + residual.
        """
        dtype = features[0].dtype
        modulation = self.code(torch.cat([code, offset], 1).to(self.rise.weight.dtype))  # [n, latent_dim]
        x: Tensor | None = None
        for level, skip in zip(self.levels, self.skips, strict=True):
            if x is not None:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = level(x, _channels_last(warp(features[skip], flow)), modulation)
        warped = warp(image, flow)  # [n, 3, S, S]
        x = F.pixel_shuffle(F.leaky_relu(self.rise(x), 0.1), 2)  # [n, C, S / 2, S / 2]
        blocks = F.pixel_unshuffle(warped.to(dtype), 2)  # [n, 12, S / 2, S / 2]
        x = F.leaky_relu(self.finest(_channels_last(torch.cat([x, blocks], 1))), 0.1)
        painted = F.pixel_shuffle(self.paint(x), 2).float()  # [n, 4, S, S]
        residual, share = painted[:, :3], torch.sigmoid(painted[:, 3:])
        return (warped.float() + share * residual).clamp(0, 1), warped


def _channels_last(x: Tensor) -> Tensor:
    """Convolutions on a CPU run fastest in this memory layout."""
    return x.contiguous(memory_format=torch.channels_last)
