"""The loss of stage 1 on a part of a step's pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ifmdm_core.autoencoder import Autoencoder
from ifmdm_core.autoencoder.perceptual import PerceptualLoss
from ifmdm_core.training.adversarial import Adversary, Judged
from ifmdm_core.training.autoencoder_data import to_model
from ifmdm_core.training.autoencoder_settings import AutoencoderTaskConfig
from ifmdm_core.training.face_parameters import LIP_POINTS
from ifmdm_core.training.picture_losses import FACE_TERMS, picture_terms
from ifmdm_core.training.sample_wise import SampleDropout, give_masks

SATURATED = 0.95
"""Motion beyond this is in the flat part of tanh."""


STEEP = 1.5
"""Inputs of tanh up to this are free: there it still passes a fifth of a gradient."""


def reach(motion: Tensor) -> Tensor:
    """How far motion [N, 20] in (-1, 1) goes into the flat part of tanh, [N]: mean square of what is beyond `STEEP`.

    Without a price on it an encoder that begins with random weights runs into ±1, where it learns nothing more.
    """
    before_tanh = torch.atanh(motion.float().clamp(-0.9999, 0.9999))
    return (before_tanh.abs() - STEEP).clamp_min(0).square().mean(1)


class PictureObjective(nn.Module):
    """Paints every pair's second frame from its first; gives this part's share of the whole step's figures."""

    def __init__(
        self,
        model: Autoencoder,
        config: AutoencoderTaskConfig,
        dropouts: Mapping[str, SampleDropout],
        perceptual: PerceptualLoss | None,
        adversary: Adversary | None,
    ) -> None:
        super().__init__()
        self.model, self.perceptual = model, perceptual
        self.config = config
        self._dropouts = dropouts
        self._adversary = (adversary,)  # in a tuple: its weights are not this module's
        self.judged = False
        """Whether the discriminators take part."""
        self.seen: list[Judged] = []
        """What the discriminators are to learn from, collected while they take part."""

    def forward(self, part: dict[str, Tensor]) -> dict[str, Tensor]:
        """Figures of a part as `PairBatches.make` gives it, with `face_share` [b]: 0 without a face, else 1 / count."""
        masks = {name: part[f"kept {name}"] for name in self._dropouts}
        give_masks(self._dropouts, masks)
        source, wanted = to_model(part["frames"][:, 0]), to_model(part["frames"][:, 1])  # [b, 3, S, S]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train == "all"):
            motion = self.model.encode_motion(torch.cat([source, wanted]))  # [2 b, 20]
        own, driving = motion.chunk(2)
        identity = self.model.encode_identity(source, own)
        output, warped, flow = self.model.paint(identity, driving)
        output = output.float()
        with torch.autocast(output.device.type, enabled=False):
            each = picture_terms(output, warped, flow, wanted, part["meshes"][:, 1], part["meshes"][:, 0])
            share, face_share = part["share"], part["face_share"]
            terms = {k: (v * (face_share if k in FACE_TERMS else share)).sum() for k, v in each.items()}
        loss = self.config.losses.total(terms)
        if self.config.train == "all":
            terms["reach"] = (share * reach(motion).view(2, -1).mean(0)).sum()
            loss = loss + self.config.losses.reach * terms["reach"]
        if self.perceptual is not None:
            terms["perceptual"] = (share * self.perceptual(output, wanted)).sum()
            loss = loss + self.config.losses.perceptual * terms["perceptual"]
        (adversary,) = self._adversary
        if adversary is not None and self.config.adversary is not None:
            terms["adversary"] = torch.zeros_like(loss)
            if self.judged:
                lips = part["meshes"][:, 1, list(LIP_POINTS)]
                pictures = Judged(wanted, output, lips, share, face_share)
                terms["adversary"] = adversary.judge(pictures)
                loss = loss + self.config.adversary.weight * terms["adversary"]
                self.seen.append(replace(pictures, fake=output.detach()))
        flat = (motion.detach().abs() > SATURATED).float().mean(1).view(2, -1).mean(0)  # [b]
        return {
            "loss": loss, **terms, "saturation": (share * flat).sum(), "faces": (share * part["known"]).sum()
        }  # fmt: skip
