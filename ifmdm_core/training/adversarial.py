"""The adversarial part of stage 1, for the last phase of a GPU training: whole picture and mouth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ifmdm_core.autoencoder.discriminator import PatchDiscriminator
from ifmdm_core.autoencoder.losses import (
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    r1_penalty,
    region,
)

MOUTH_SIDE = 96
R1_EVERY, R1_WEIGHT = 16, 5.0


class Adversary(nn.Module):
    """Two patch discriminators and their optimiser."""

    def __init__(self, learning_rate: float = 2e-4) -> None:
        super().__init__()
        self.whole, self.mouth = PatchDiscriminator(), PatchDiscriminator(layers=3)
        self.optimizer = torch.optim.AdamW(self.parameters(), learning_rate, betas=(0.0, 0.99))
        self.steps = 0

    def improve(self, real: Tensor, fake: Tensor, lips: Tensor) -> Tensor:
        """One step of the discriminators on pictures [N, 3, S, S] and lip points [N, K, 2]; returns their loss."""
        self.requires_grad_(True)
        penalise = self.steps % R1_EVERY == 0
        real = real.detach().requires_grad_(penalise)
        self.steps += 1
        scores = self._scores(real, lips)
        loss = hinge_discriminator(scores, self._scores(fake.detach(), lips))
        if penalise:
            loss = loss + R1_WEIGHT * r1_penalty(scores, real)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.requires_grad_(False)
        return loss.detach()

    def _scores(self, pictures: Tensor, lips: Tensor) -> list[Tensor]:
        return [self.whole(pictures)[0], self.mouth(region(pictures, lips, MOUTH_SIDE, 0.8))[0]]

    def judge(self, real: Tensor, fake: Tensor, lips: Tensor) -> Tensor:
        """The generator's loss: hinge plus feature matching."""
        total = fake.new_zeros(())
        for net, cut in ((self.whole, None), (self.mouth, MOUTH_SIDE)):
            a, b = (p if cut is None else region(p, lips, cut, 0.8) for p in (real, fake))
            score, features = net(b)
            with torch.no_grad():
                wanted = net(a)[1]
            total = total + hinge_generator([score]) + 5 * feature_matching(wanted, features)
        return total
