"""Stage one on Serve: windows of audio in, speech tokens out."""

from __future__ import annotations

import numpy as np
import torch

from ifmdm_core.errors import BadInput
from ifmdm_core.speech_windows import SpeechWindows
from serve.batches import Batches
from serve.config import StageConfig
from serve.messages import Floats, Reply
from serve.replica import BundleRef, Replica


class SpeechEncoderStage:
    """A replica of the speech encoder; windows of one length share a batch."""

    def __init__(self, bundle: BundleRef, config: StageConfig) -> None:
        self._replica = Replica(config)
        self._encoder = bundle.open().speech_encoder(self._replica.device)
        self._batches = Batches(self._encode, len, config.batch, config.batch_wait_s)

    def windows(self) -> SpeechWindows:
        """The grid that callers cut audio by."""
        return self._encoder.windows

    async def encode(self, samples: Floats) -> Reply[Floats]:
        """One window of 16 kHz audio float32 [n] -> tokens float32 [t, dim].

        Raises BadInput for samples of another shape, too many of them, none, NaN or infinity.
        """
        windows = self._encoder.windows
        most = (windows.window - 1) * windows.stride + windows.receptive
        if samples.ndim != 1 or not 0 < len(samples) <= most:
            raise BadInput(f"speech samples of shape {samples.shape}", fix=f"give 1 to {most} mono samples")
        if not np.isfinite(samples).all():
            raise BadInput("speech samples hold NaN or infinity", fix="decode the audio again")
        return self._replica.reply(await self._batches.run(samples))

    def check_health(self) -> None:
        """Raises when this replica should be replaced."""
        self._batches.check()

    def _encode(self, calls: list[Floats]) -> list[Floats]:
        tokens = self._encoder.forward(torch.from_numpy(np.stack(calls)))  # [B, t, dim]
        return list(tokens.cpu().numpy())
