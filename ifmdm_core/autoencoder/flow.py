"""Backward flow as a weighted sum of fields that are drawn once per portrait.

The portrait's features are turned into a few dozen displacement fields ("how would this face move if ..."),
and a frame only has to say how much of each: flow(m) = Σ_j (c_j(m) − c_j(m^i)) B_j. It is exactly zero at
the portrait's own motion, costs next to nothing per frame, and, because drawing the fields is a plain
picture-to-picture task, carries over to people never seen. Expression fields live in the portrait's own
coordinates: they are looked up where the pose fields point, so a turned head still opens its own mouth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.autoencoder.config import AutoencoderConfig
from ifmdm_core.autoencoder.layers import NormalizedConv, warp


class FlowFields(nn.Module):
    """Draws the displacement fields of a portrait from its features."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.first = config.encoder_sides.index(config.flow_size)
        channels, width = config.encoder_channels, config.field_channels
        self.pose_fields = config.pose_fields
        wide = 2 * width
        self.bottom = NormalizedConv(channels[-1], wide)
        self.latent = nn.Linear(config.latent_dim, wide)
        count = len(channels) - self.first
        widths = [wide] * (count - 2) + [width]
        inputs = [wide, *widths[:-1]]
        skips = channels[self.first : -1][::-1]
        self.ups = nn.ModuleList(
            NormalizedConv(i + s, o) for i, s, o in zip(inputs, skips, widths, strict=True)
        )
        self.last = NormalizedConv(width + 2, width)
        self.fields = nn.Conv2d(width, 2 * (config.pose_fields + config.expression_fields), 3, 1, 1)
        nn.init.normal_(self.fields.weight, std=1e-3)
        if self.fields.bias is not None:
            nn.init.zeros_(self.fields.bias)

    def forward(self, features: list[Tensor], latent: Tensor) -> Tensor:
        """Fields float32 [B, 2 (pose + expression), s, s] in units of half a picture."""
        x = self.bottom(features[-1]) + self.latent(latent)[:, :, None, None].to(features[-1].dtype)
        for up, skip in zip(self.ups, features[self.first : -1][::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")  # [B, C, 2S, 2S]
            x = up(torch.cat([x, skip], 1))
        side = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        place = torch.stack(torch.meshgrid(side, side, indexing="ij"))[None].expand(len(x), -1, -1, -1)
        return self.fields(self.last(torch.cat([x, place], 1))).float().contiguous()


class FlowCoefficients(nn.Module):
    """How much of each field a motion asks for, relative to the portrait's own motion."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        dim, fields = config.latent_dim, config.pose_fields + config.expression_fields
        self.network = nn.Sequential(nn.Linear(3 * dim, dim), nn.LeakyReLU(0.1), nn.Linear(dim, fields))
        self.linear = nn.Linear(dim, fields, bias=False)

    def forward(self, latent: Tensor, code: Tensor, offset: Tensor) -> Tensor:
        """Coefficients float32 [n, fields] of latent w, code Qm and offset Q(m − m^i), each [n, latent_dim]."""
        together = torch.cat([latent, code, offset], 1).float()  # [n, 3 latent_dim]
        return self.network(together) + self.linear(code)


def compose_flow(fields: Tensor, coefficients: Tensor, pose_fields: int) -> Tensor:
    """Flow float32 [n, 2, s, s] from fields [B, 2F, s, s] and coefficients [n, F], n / B frames a portrait in turn."""
    with torch.autocast(fields.device.type, enabled=False):
        (portraits, _, side, _), (n, count) = fields.shape, coefficients.shape
        stacked = fields.float().view(portraits, count, 2 * side * side)  # [B, F, 2 s s]
        shares = coefficients.float().view(portraits, n // portraits, count)  # [B, n / B, F]
        pose = (shares[..., :pose_fields] @ stacked[:, :pose_fields]).view(n, 2, side, side)
        expression = (shares[..., pose_fields:] @ stacked[:, pose_fields:]).view(n, 2, side, side)
        return pose + warp(expression, pose)
