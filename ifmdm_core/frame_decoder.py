"""Pictures of one bundle on one device: a portrait's appearance once, frames for motion as often as wanted."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.autoencoder import Autoencoder, Identity
from ifmdm_core.bundle import Bundle

Frames = NDArray[np.uint8]


class FrameDecoder:
    """Stage 1 in the precision that the device is fast in; it needs no motion generator."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        chunk: int | None = None,
        compile: bool = False,
    ) -> None:
        """Takes networks in float32.

        Args:
            dtype: of the picture networks.
            chunk: frames of one call; None is 8 on a CPU, 25 on a GPU.
            compile: use torch.compile for the generator; pays off on long audio.
        """
        self.device, self.dtype = torch.device(device), dtype
        self.chunk = chunk or (25 if self.device.type == "cuda" else 8)
        autoencoder = autoencoder.to(self.device).eval()
        # m^i comes from float32 weights whatever the precision of pictures, so motion does not depend on it.
        self._motion_encoder = copy.deepcopy(autoencoder.motion_encoder) if dtype != torch.float32 else None
        self.autoencoder = autoencoder.set_precision(dtype)
        self._compiled = compile
        if compile:
            autoencoder.generator.compile()

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        chunk: int | None = None,
        compile: bool = False,
    ) -> FrameDecoder:
        """A bundle's; `dtype` None is bfloat16 where the device is faster in it, else float32.

        Raises Conflict as `Bundle.autoencoder`.
        """
        device = torch.device(device)
        return cls(bundle.autoencoder(), device, dtype or default_dtype(device), chunk, compile)

    @property
    def size(self) -> int:
        """Side of the model's frames in pixels."""
        return self.autoencoder.config.size

    @torch.inference_mode()
    def identity(self, crop: Frames) -> Identity:
        """Appearance and own motion of an aligned portrait uint8 [S, S, 3]."""
        picture = torch.from_numpy(crop).to(self.device).permute(2, 0, 1)[None].float() / 255  # [1, 3, S, S]
        own = None if self._motion_encoder is None else self._motion_encoder(picture)  # [1, 20]
        return self.autoencoder.encode_identity(picture, own)

    @torch.inference_mode()
    def frames(self, identity: Identity, motion: Tensor) -> Frames:
        """Frames uint8 [n, S, S, 3] for motion [n, 20]."""
        count = len(motion)
        if self._compiled and count < self.chunk:  # one shape, one compilation
            motion = torch.cat([motion, motion[-1:].expand(self.chunk - count, -1)])
        pictures = self.autoencoder.decode(identity, motion.to(self.device))[:count]  # [n, 3, S, S]
        pixels = pictures.float().mul(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs and on CPUs with matrix units for it (AMX); float32 elsewhere, where it is faster."""
    if device.type == "cuda":
        return torch.bfloat16
    # newer than the oldest torch we take
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if able.get("amx_bf16") else torch.float32
