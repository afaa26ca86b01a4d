"""The encoders: picture to appearance features and latent, picture to motion vector (paper 3.2, figure 4).

The paper draws one encoder with two outputs. Here motion has its own small tower: it is the only part that must run on
every frame of a dataset, it is taught before the rest, and it can be frozen while the generator still improves.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.autoencoder.closeups import EYES, LIP_DIM, MOUTH, POSE_DIM, Closeups
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
    """Picture to motion vector: head pose from the whole face, lips and eyes from close-ups that follow the pose.

    A mouth moves by a few pixels. Seen at full resolution, upright and in the same place whatever the head does,
    it can be read by a tiny network; seen within the whole picture it cannot.
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
        self.pose = nn.Linear(config.latent_dim, POSE_DIM)
        self.closeups = Closeups()
        self.mouth = PartEncoder(config.part_channels, MOUTH.shape, LIP_DIM)
        self.eyes = PartEncoder(config.part_channels, EYES.shape, config.motion_dim - POSE_DIM - LIP_DIM)

    def hidden(self, images: Tensor) -> Tensor:
        """What pose is read from, float32 [B, latent_dim], of pictures [B, 3, S, S] in [0, 1]."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="area")
        flat = self.levels(images.contiguous(memory_format=torch.channels_last) * 2 - 1).float()
        with torch.autocast(flat.device.type, enabled=False):
            return self.latent(flat)

    def parts(self, mouth: Tensor, eyes: Tensor, pose: Tensor) -> Tensor:
        """Lips and eyes float32 [B, motion_dim − 6] in (−1, 1), of close-ups [B, 3, h, w] in [0, 1] and pose [B, 6]."""
        return torch.cat([self.mouth(mouth, pose), self.eyes(eyes, pose)], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Motion float32 [B, motion_dim] in (-1, 1) of pictures [B, 3, S, S] in [0, 1]."""
        hidden = self.hidden(images)
        with torch.autocast(hidden.device.type, enabled=False):
            pose = torch.tanh(self.pose(hidden))  # [B, 6]
        mouth, eyes = (self.closeups(images, pose, part).to(images.dtype) for part in (MOUTH, EYES))
        return torch.cat([pose, self.parts(mouth, eyes, pose)], 1)


class PartEncoder(nn.Module):
    """A close-up and the head pose to a few motion numbers."""

    def __init__(self, channels: tuple[int, ...], shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        widths = (3, *channels)
        self.levels = nn.Sequential(*(EncoderLevel(i, o, 2, i > 3) for i, o in pairwise(widths)))
        flat = channels[-1] * (shape[0] >> len(channels)) * (shape[1] >> len(channels))
        self.latent = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(flat, 128), nn.LeakyReLU(0.1))
        self.last = nn.Sequential(nn.Linear(128 + POSE_DIM, 128), nn.LeakyReLU(0.1), nn.Linear(128, outputs))

    def forward(self, closeup: Tensor, pose: Tensor) -> Tensor:
        """Numbers float32 [B, outputs] in (-1, 1)."""
        flat = self.levels(closeup.contiguous(memory_format=torch.channels_last) * 2 - 1).float()
        with torch.autocast(flat.device.type, enabled=False):
            return torch.tanh(self.last(torch.cat([self.latent(flat), pose], 1)))
