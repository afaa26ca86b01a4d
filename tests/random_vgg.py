"""VGG19-shaped random weights: show that code runs, say nothing of the measure."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ifmdm_core.autoencoder.perceptual import WIDTHS


def write_random_vgg(path: Path) -> Path:
    """A safetensors file with the names of torchvision's `vgg19().features`, always the same; returns its path."""
    random = torch.Generator().manual_seed(0)
    tensors, inputs, index = {}, 3, 0
    for width in WIDTHS:
        if width:
            weight = torch.randn(width, inputs, 3, 3, generator=random) * (2 / (9 * inputs)) ** 0.5
            tensors[f"features.{index}.weight"] = weight
            tensors[f"features.{index}.bias"] = torch.zeros(width)
            inputs = width
        index += 2 if width else 1
    save_file(tensors, path)
    return path
