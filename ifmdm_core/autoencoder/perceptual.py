"""Perceptual distance by VGG19 features, for trainings whose operator gives the weights.

The weights are a safetensors file with the names of torchvision's `vgg19().features`; none are bundled.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ifmdm_core.errors import BadInput

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
"""Channels of each convolution up to conv5_1; 0 halves the side."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """L1 between VGG19 features at the first convolution of every block (Johnson et al. 2016), three scales."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        """Raises BadInput when the file lacks a layer or has it in another shape."""
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        inputs, fresh = 3, True
        for width in WIDTHS:
            if not width:
                layers.append(nn.MaxPool2d(2))
                fresh = True
                continue
            layers += [nn.Conv2d(inputs, width, 3, 1, 1), nn.ReLU()]
            if fresh:
                self.taps.append(len(layers) - 1)
            inputs, fresh = width, False
        self.features = nn.Sequential(*layers)
        stored = {k.removeprefix("features."): v for k, v in load_file(weights).items()}
        wanted = self.features.state_dict()
        missing = [k for k, v in wanted.items() if k not in stored or stored[k].shape != v.shape]
        if missing:
            raise BadInput(
                f"{weights} is not VGG19: {missing[0]} is missing or of another shape",
                fix="give torchvision's vgg19 features as safetensors",
            )
        self.features.load_state_dict({k: stored[k] for k in wanted})
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN)[None, :, None, None])
        self.register_buffer("std", torch.tensor(STD)[None, :, None, None])

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance [N] of pictures [N, 3, S, S] in [0, 1]."""
        total = output.new_zeros(len(output))
        for _ in range(3):
            x, y = ((p - self.mean) / self.std for p in (output, target))
            for index, layer in enumerate(self.features):
                x, y = layer(x), layer(y)
                if index in self.taps:
                    away = (x - y.detach()).abs().float().flatten(1).mean(1)  # [N]
                    total = total + away / (3 * len(self.taps))
            output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
        return total
