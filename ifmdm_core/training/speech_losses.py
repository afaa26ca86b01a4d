"""What the speech encoder is asked for: lips with their velocity, which lips go with which sound, kinds of sound,
visemes. Sums over frames, so that parts of a batch add up; both trainings of the encoder use them.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ifmdm_core.training.speech_model import CLUSTERS, SpeechHeads


class SpeechLossWeights(BaseModel):
    """Of the objective's terms, each near 1 before training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lips: float = Field(1.0, ge=0, description="weight of lips relative to the clip")
    speed: float = Field(0.5, ge=0, description="weight of their frame-to-frame change")
    contrast: float = Field(0.5, ge=0, description="weight of which lips go with which sound, within a clip")
    clusters: float = Field(0.3, ge=0, description="weight of kinds of sound where the encoder cannot hear")
    visemes: float = Field(0.3, ge=0, description="weight of mouth shapes of synthetic speech")


CHANCE = {"contrast": 3.3, "clusters": math.log(CLUSTERS), "visemes": 2.5}
"""About what the cross-entropies are before training."""


def lip_sums(
    heads: SpeechHeads, features: Tensor, wanted: Tensor, valid: Tensor, weights: Tensor, speeds: Tensor
) -> dict[str, Tensor]:
    """Sums over frames of `lips` and `contrast`, over pairs of frames of `speed`.

    Args:
        features: [b, T, hidden]. wanted: standardised lips [b, T, L]. valid: [b, T] 1 where there are lips, else 0.
        weights: [L], share of each lip measurement. speeds: [L], deviation of their frame-to-frame change.
    """
    there = valid[..., None]  # [b, T, 1]
    count = there.sum(1, keepdim=True).clamp(min=1)

    def relative(values: Tensor) -> Tensor:
        return values - (values * there).sum(1, keepdim=True) / count

    guess, wanted = relative(heads.lips(features)), relative(wanted)
    lips = ((guess - wanted).square() * weights).sum(-1)  # [b, T]
    speed = (guess.diff(dim=1) - wanted.diff(dim=1)) / speeds
    return {
        "lips": (lips * valid).sum(),
        "speed": ((speed.square() * weights).sum(-1) * valid[:, 1:] * valid[:, :-1]).sum(),
        "contrast": (heads.contrast_frames(features, wanted * there, valid) * valid).sum(),
    }


def viseme_sums(heads: SpeechHeads, features: Tensor, values: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Sums over frames of `visemes` (cross-entropy) and `tract` (error of opening and rounding).

    features [b, T, hidden]; values [b, T, 3]: viseme number, opening, rounding; valid [b, T] as in `lip_sums`.
    """
    guess = heads.visemes(features)  # [b, T, visemes + 2]
    classes = guess[..., :-2].transpose(1, 2)  # [b, visemes, T]
    cross = nn.functional.cross_entropy(classes, values[..., 0].long(), reduction="none")  # [b, T]
    tract = (guess[..., -2:] - values[..., 1:]).square().mean(-1)  # [b, T]
    return {"visemes": (cross * valid).sum(), "tract": (tract * valid).sum()}


def cluster_sum(heads: SpeechHeads, tokens: Tensor, clusters: Tensor, mask: Tensor) -> Tensor:
    """Sum over masked tokens of the cross-entropy of their clusters [b, t]; tokens [b, t, hidden], mask [b, t] bool."""
    return nn.functional.cross_entropy(heads.clusters(tokens[mask]), clusters[mask], reduction="sum")


def total(terms: dict[str, Tensor], weights: SpeechLossWeights) -> Tensor:
    """The loss of means (or parts of means) of the terms that a batch has."""
    loss: Tensor | float = 0.0
    for name in ("lips", "speed", "contrast", "clusters", "visemes"):
        if name in terms:
            loss = loss + getattr(weights, name) * terms[name] / CHANCE.get(name, 1.0)
    if "tract" in terms:
        loss = loss + 10 * weights.visemes * terms["tract"]
    assert isinstance(loss, Tensor)
    return loss
