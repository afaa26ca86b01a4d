"""Patch discriminator for the last part of GPU training: the whole picture and the mouth."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches; every layer's features serve feature matching."""

    def __init__(self, width: int = 48, layers: int = 4) -> None:
        super().__init__()
        widths = [3, *(min(width * 2**i, 8 * width) for i in range(layers))]
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(i, o, 4, 2, 1)) for i, o in pairwise(widths))
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores [N, 1, s, s] and the layers' features of pictures [N, 3, S, S] in [0, 1]."""
        x, features = pictures * 2 - 1, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.score(x), features
