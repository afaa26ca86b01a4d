"""The stage 1 model: identity, motion, frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ifmdm_core.autoencoder.config import AutoencoderConfig
from ifmdm_core.autoencoder.encoder import AppearanceEncoder, MotionEncoder
from ifmdm_core.autoencoder.flow import FlowCoefficients, FlowFields, compose_flow
from ifmdm_core.autoencoder.generator import Generator
from ifmdm_core.autoencoder.motion_basis import MotionBasis


@dataclass(frozen=True)
class Identity:
    """All that frames of one portrait need (of B portraits while training)."""

    image: Tensor
    """[B, 3, S, S] in [0, 1]"""
    features: tuple[Tensor, ...]
    """Appearance features A_l, finest first, [B, C_l, S_l, S_l]"""
    latent: Tensor
    """Appearance latent w, float32 [B, latent_dim]"""
    motion: Tensor
    """The portrait's own motion vector m^i, float32 [B, 20]"""
    fields: Tensor
    """Displacement fields, float32 [B, 2F, s, s]"""
    rest: Tensor
    """Field coefficients at m^i, float32 [B, F]"""

    def to(self, device: str | torch.device) -> Identity:
        """The same identity on another device."""
        return self._map(lambda t: t.to(device))

    def at(self, index: int) -> Identity:
        """One portrait of a batch."""
        return self._map(lambda t: t[index : index + 1])

    def _map(self, change) -> Identity:  # type: ignore[no-untyped-def]
        return replace(
            self,
            image=change(self.image),
            features=tuple(change(f) for f in self.features),
            latent=change(self.latent),
            motion=change(self.motion),
            fields=change(self.fields),
            rest=change(self.rest),
        )

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""
        tensors = (self.image, *self.features, self.latent, self.motion, self.fields, self.rest)
        return sum(t.nbytes for t in tensors)


class Autoencoder(nn.Module):
    """Encoder, motion basis and generator (paper 3.2).

    At `decode(identity, identity.motion)` the flow is exactly zero, whatever the weights.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.appearance = AppearanceEncoder(config)
        self.motion_encoder = MotionEncoder(config)
        self.basis = MotionBasis(config.motion_dim, config.latent_dim)
        self.flow_fields = FlowFields(config)
        self.flow_coefficients = FlowCoefficients(config)
        self.generator = Generator(config)

    def set_precision(self, dtype: torch.dtype) -> Autoencoder:
        """Convolutions in `dtype` (float32 or bfloat16), channels last; all that makes motion stays float32."""
        for network in self._convolutional:
            network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, hence of pictures on their way through convolutions."""
        return self.generator.rise.weight.dtype

    @property
    def _convolutional(self) -> tuple[nn.Module, ...]:
        appearance = self.appearance
        return (
            appearance.levels,
            appearance.shrink,
            self.motion_encoder.levels,
            self.motion_encoder.mouth.levels,
            self.motion_encoder.eyes.levels,
            self.flow_fields,
            self.generator,
        )

    def encode_motion(self, images: Tensor) -> Tensor:
        """Motion vectors float32 [B, 20] in (-1, 1) of pictures [B, 3, S, S] in [0, 1]."""
        return self.motion_encoder(images.to(self.dtype))

    def encode_identity(self, images: Tensor, motion: Tensor | None = None) -> Identity:
        """Appearance of pictures [B, 3, S, S] in [0, 1]; `motion` [B, 20] replaces their own m^i."""
        features, latent = self.appearance(
            images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        )
        motion = self.encode_motion(images) if motion is None else motion
        fields = self.flow_fields(features, latent.to(self.dtype))
        with torch.autocast(latent.device.type, enabled=False):
            code = self.basis(motion)
            rest = self.flow_coefficients(latent, code, torch.zeros_like(code))
        return Identity(images, tuple(features), latent, motion, fields, rest)

    def flow(self, identity: Identity, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Backward flow float32 [n, 2, s, s], code Qm and offset Q(m − m^i) [n, latent_dim] for motion [n, 20].

        The n frames belong to the identity's B portraits in turn, n / B each.
        """
        each = len(motion) // len(identity.motion)
        with torch.autocast(motion.device.type, enabled=False):
            code = self.basis(motion)
            offset = code - self.basis(identity.motion).repeat_interleave(each, 0)
            latent = identity.latent.float().repeat_interleave(each, 0)
            rest = identity.rest.repeat_interleave(each, 0)
            coefficients = self.flow_coefficients(latent, code, offset) - rest
            flow = compose_flow(identity.fields, coefficients, self.config.pose_fields)
        return flow, code, offset

    def paint(self, identity: Identity, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, the warped portrait (both [n, 3, S, S] in [0, 1]) and the flow, for motion [n, 20]."""
        flow, code, offset = self.flow(identity, motion)
        features, image = list(identity.features), identity.image
        if len(image) > 1:
            each = len(motion) // len(image)
            features = [f.repeat_interleave(each, 0) for f in features]
            image = image.repeat_interleave(each, 0)
        frames, warped = self.generator(features, image, flow, code, offset)
        return frames, warped, flow

    def decode(self, identity: Identity, motion: Tensor) -> Tensor:
        """Frames [n, 3, S, S] in [0, 1] for motion [n, 20], of one portrait (or n / B frames of each of B)."""
        return self.paint(identity, motion)[0]
