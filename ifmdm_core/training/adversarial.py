"""The adversarial part of stage 1, for the last part of a GPU training: whole picture and mouth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from ifmdm_core.training.optimiser import Precision
from ifmdm_core.training.world import World

MOUTH_SIDE, MOUTH_MARGIN = 96, 0.8
R1_EVERY, R1_WEIGHT = 16, 5.0


@dataclass(frozen=True)
class Judged:
    """Pictures that the discriminators compare, and what each counts in the sum over all of a step's."""

    real: Tensor
    """[N, 3, S, S] in [0, 1]"""
    fake: Tensor
    """The same, as painted."""
    lips: Tensor
    """Points [N, K, 2] around the mouth, in crop coordinates."""
    share: Tensor
    """[N], adds up to 1 over the whole step."""
    mouth_share: Tensor
    """The same for the mouth; 0 where none is known."""

    @classmethod
    def alone(cls, real: Tensor, fake: Tensor, lips: Tensor) -> Judged:
        """A step of these pictures only, all with a mouth."""
        share = real.new_full((len(real),), 1 / len(real), dtype=torch.float32)
        return cls(real, fake, lips, share, share)


class Adversary(nn.Module):
    """Two patch discriminators and their optimiser."""

    def __init__(self, learning_rate: float = 2e-4) -> None:
        super().__init__()
        self.whole, self.mouth = PatchDiscriminator(), PatchDiscriminator(layers=3)
        self.optimizer = torch.optim.AdamW(self.parameters(), learning_rate, betas=(0.0, 0.99))
        self.requires_grad_(False)

    def improve(
        self, parts: Sequence[Judged], *, step: int, world: World | None = None, precision: Precision = "fp32"
    ) -> Tensor:
        """One update from a step's pictures; returns this process's part of the loss.

        Every `R1_EVERY`th step also pays for steep scores at real pictures. Gradients are summed over processes here:
        a second derivative does not pass through PyTorch's wrapper for that.
        """
        world = world or World()
        penalise = step % R1_EVERY == 0
        self.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        total = parts[0].share.new_zeros(())
        for part in parts:
            half = precision == "bf16" and not penalise
            with torch.autocast(part.real.device.type, torch.bfloat16, enabled=half):
                loss = self._loss(part, penalise)
            loss.backward()
            total = total + loss.detach()
        if world.size > 1:
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            summed = world.sum(torch.cat([g.flatten() for g in gradients]))
            for gradient, value in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(value.view_as(gradient))
        self.optimizer.step()
        self.requires_grad_(False)
        return total

    def judge(self, part: Judged) -> Tensor:
        """The generator's loss, [N] weighted and summed: hinge plus feature matching."""
        return (part.share * self._opinion(self.whole, part.real, part.fake)).sum() + (
            part.mouth_share * self._opinion(self.mouth, *_mouths(part))
        ).sum()

    def _loss(self, part: Judged, penalise: bool) -> Tensor:
        real = part.real.detach().requires_grad_(penalise)
        mouths, fake_mouths = _mouths(part, real)
        whole, mouth = self.whole(real)[0], self.mouth(mouths)[0]
        each = hinge_discriminator(whole, self.whole(part.fake.detach())[0])
        near = hinge_discriminator(mouth, self.mouth(fake_mouths.detach())[0])
        loss = 0.5 * ((part.share * each).sum() + (part.mouth_share * near).sum())
        if penalise:
            known = (part.mouth_share > 0).float()[:, None, None, None]
            loss = loss + R1_WEIGHT * (part.share * r1_penalty([whole, mouth * known], real)).sum()
        return loss

    @staticmethod
    def _opinion(net: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        score, features = net(fake)
        with torch.no_grad():
            wanted = net(real)[1]
        return hinge_generator(score) + 5 * feature_matching(wanted, features)


def _mouths(part: Judged, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mouths of real and painted pictures, [N, 3, 96, 96]."""
    pictures = part.real if real is None else real
    first = region(pictures, part.lips, MOUTH_SIDE, MOUTH_MARGIN)
    return first, region(part.fake, part.lips, MOUTH_SIDE, MOUTH_MARGIN)
