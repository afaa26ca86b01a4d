"""What painted pictures are compared by in stage 1, shared by all of its trainings."""

from __future__ import annotations

from functools import cache

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ifmdm_core.autoencoder.losses import gradient_l1, mesh_flow_l1, pyramid_l1, region
from ifmdm_core.training.face_parameters import EYE_POINTS, JAW_POINTS, LIP_POINTS

FACE_TERMS = ("mouth", "eyes", "warped_mouth", "mesh")
"""Terms that only pictures with a known mesh have."""


class PictureWeights(BaseModel):
    """Weight of each term. Mouth and eyes are means over their own small squares, so 1 is about ten times a pixel's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    whole: float = Field(
        1.0, ge=0, description="the painted picture against the real one, four scales and edges"
    )
    mouth: float = Field(1.0, ge=0, description="the same within the square around the lips")
    eyes: float = Field(0.5, ge=0, description="the same within the square around eyes and brows")
    warped: float = Field(0.3, ge=0, description="the warped portrait before painting, whole and mouth")
    mesh: float = Field(
        2.0, ge=0, description="flow against the displacement of a landmark mesh; 0: no mesh is used"
    )
    paint: float = Field(
        0.6, ge=0, description="price of every change that painting makes to the warped portrait"
    )
    perceptual: float = Field(0.2, ge=0, description="VGG19 features, when weights are given")
    reach: float = Field(
        0.1,
        ge=0,
        description="price of motion that leaves the steep part of tanh, while the encoder is trained",
    )

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of `picture_terms`."""
        return (
            self.whole * terms["whole"]
            + self.mouth * terms["mouth"]
            + self.eyes * terms["eyes"]
            + self.warped * (terms["warped"] + terms["warped_mouth"])
            + self.mesh * terms["mesh"]
            + self.paint * terms["paint"]
        )

    @property
    def need_faces(self) -> bool:
        """Whether any term needs the faces' meshes."""
        return max(self.mouth, self.eyes, self.mesh) > 0


@cache
def mesh_weights(device: torch.device) -> Tensor:
    """Weight of each mesh point in the flow loss, [478]: lips 4, eyes 2, jaw 2."""
    weights = torch.ones(478)
    weights[list(JAW_POINTS)] = 2.0
    weights[list(EYE_POINTS)] = 2.0
    weights[list(LIP_POINTS)] = 4.0
    return weights.to(device)


def picture_terms(
    output: Tensor, warped: Tensor, flow: Tensor, wanted: Tensor, mesh: Tensor, source_mesh: Tensor
) -> dict[str, Tensor]:
    """Every term of `PictureWeights` but the perceptual one, each [N], of N frames.

    Args:
        output, warped, wanted: painted, warped and real pictures [N, 3, S, S] in [0, 1].
        flow: [N, 2, s, s], in half pictures.
        mesh, source_mesh: points [N, 478, 2] of the real picture and of the portrait, in crop coordinates.
    """
    output, warped = output.float(), warped.float()
    lips, eyes = mesh[:, list(LIP_POINTS)], mesh[:, list(EYE_POINTS)]
    return {
        "whole": pyramid_l1(output, wanted) + 0.5 * gradient_l1(output, wanted),
        "mouth": _region_loss(output, wanted, lips, 0.8),
        "eyes": _region_loss(output, wanted, eyes, 0.6),
        "warped": pyramid_l1(warped, wanted),
        "warped_mouth": _region_loss(warped, wanted, lips, 0.8),
        "mesh": mesh_flow_l1(flow, mesh, source_mesh, mesh_weights(flow.device)),
        # Where warping serves, painting may not blur: every change it makes costs a little.
        "paint": (output - warped.detach()).abs().flatten(1).mean(1),
    }


def _region_loss(output: Tensor, wanted: Tensor, points: Tensor, margin: float) -> Tensor:
    """Difference in the square around mesh points, cut out at 72 pixels; [N]."""
    output, wanted = region(output, points, 72, margin), region(wanted, points, 72, margin)
    return pyramid_l1(output, wanted, 3) + 0.5 * gradient_l1(output, wanted)
