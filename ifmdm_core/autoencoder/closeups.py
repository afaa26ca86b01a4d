"""Where mouth and eyes are, given the head pose that a motion vector starts with.

The first six motion numbers are tanh(gain · standardised (yaw, pitch, roll, x, y, log size)) of a rigid face shape
(`training.face_parameters`); undoing that tells where any point of the shape lies in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSE_DIM, LIP_DIM = 6, 10
"""Leading numbers of a motion vector: head pose, then lips and jaw; the rest are eyes and brows."""


@dataclass(frozen=True)
class Part:
    """A close-up: which point of the face it is centred on, and its extent."""

    index: int
    """Row of `Closeups.centres`."""
    shape: tuple[int, int]
    """Height and width in pixels."""
    width: float
    """Width in units of the face's width."""


MOUTH = Part(0, (64, 64), 0.62)
EYES = Part(1, (48, 96), 0.92)


class Closeups(nn.Module):
    """Cuts upright close-ups out of pictures; its buffers describe the face shape and are set before training."""

    centres: Tensor
    pose_centre: Tensor
    pose_scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Defaults: an average face that fills half the picture; training replaces them by the measured ones.
        self.register_buffer("centres", torch.tensor([[0.0, 0.45, -0.1], [0.0, 0.0, -0.1]]))
        self.register_buffer("pose_centre", torch.tensor([0.0, 0.0, 0.0, 0.5, 0.4, -0.7]))
        self.register_buffer("pose_scale", torch.tensor([0.2, 0.15, 0.08, 0.03, 0.03, 0.1]))
        self.gain = 0.4

    def placement(self, pose: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """Of motion's first six numbers [B, 6]: the part's centre [B, 2] in [0, 1] and its axes [B, 2, 2].

        The axes' columns are half the close-up's width and height as vectors in the picture.
        """
        raw = torch.atanh(pose.float().clamp(-0.999, 0.999)) / self.gain * self.pose_scale + self.pose_centre
        yaw, pitch, roll, x, y, log_size = raw.unbind(1)
        size = log_size.exp()  # picture widths for one face width
        px, py, pz = self.centres[part.index]
        # R = Rz(roll) Ry(yaw) Rx(pitch); first Rx and Ry, then Rz and size for x and y alone.
        y1, z1 = py * pitch.cos() - pz * pitch.sin(), py * pitch.sin() + pz * pitch.cos()
        x2 = px * yaw.cos() + z1 * yaw.sin()
        c, s = roll.cos() * size, roll.sin() * size
        centre = torch.stack([x + c * x2 - s * y1, y + s * x2 + c * y1], 1)  # [B, 2]
        half = part.width / 2
        ratio = part.shape[0] / part.shape[1]
        across, down = torch.stack([c, s], 1) * half, torch.stack([-s, c], 1) * (half * ratio)
        return centre, torch.stack([across, down], 2)

    def forward(self, images: Tensor, pose: Tensor, part: Part) -> Tensor:
        """Close-ups float32 [B, 3, h, w] of pictures [B, 3, S, S] by pose [B, 6]."""
        centre, axes = self.placement(pose, part)
        height, width = part.shape
        across = (torch.arange(width, device=images.device) + 0.5) * (2 / width) - 1
        down = (torch.arange(height, device=images.device) + 0.5) * (2 / height) - 1
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)  # [h, w, 2]
        places = torch.einsum("hwk,bjk->bhwj", grid.float(), axes) + centre[:, None, None]  # [B, h, w, 2]
        return F.grid_sample(images.float(), places * 2 - 1, align_corners=False, padding_mode="border")
