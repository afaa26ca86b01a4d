"""Motion vectors in the latent space: an orthonormal basis with a learned gain per direction."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MotionBasis(nn.Module):
    """Maps motion [n, 20] to Q (g ∘ m) in the latent space (LIA's linear decomposition).

    With tanh and an orthonormal Q alone the code's length could not exceed √20 and the tanh would saturate;
    the gains g lift that cap.
    """

    def __init__(self, motion_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(latent_dim, motion_dim))
        self.gain = nn.Parameter(torch.full((motion_dim,), 3.0))
        self._directions: Tensor | None = None

    def train(self, mode: bool = True) -> MotionBasis:
        self._directions = None
        return super().train(mode)

    def directions(self) -> Tensor:
        """Orthonormal columns, float32 [latent_dim, motion_dim]; worked out once when not training."""
        if self.training or self._directions is None or self._directions.device != self.weight.device:
            directions, upper = torch.linalg.qr(self.weight.float())
            directions = directions * torch.sign(torch.diagonal(upper))  # keeps the factorisation continuous
            if self.training:
                return directions
            self._directions = directions.detach()
        return self._directions

    def forward(self, motion: Tensor) -> Tensor:
        return (motion.float() * self.gain.float()) @ self.directions().T  # [n, latent_dim]
