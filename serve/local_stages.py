"""The stages of a bundle in this process, each on its own thread: for tests, tools, workers without a cluster."""

from __future__ import annotations

from ifmdm_core.bundle_fetch import fetch_bundle
from serve.config import ServeConfig
from serve.frame_decoder import FrameDecoderStage
from serve.messages import ChunkCall, Floats, IdentityRef, ModelFacts, MotionWindow, Reply, WindowCall
from serve.motion_sampler import MotionSamplerStage
from serve.replica import BundleRef
from serve.speech_encoder import SpeechEncoderStage


class LocalStages:
    """`Stages` made of one replica each, the same code as on Serve; its configuration counts but for scaling.

    Loads the networks when made, which blocks. Portraits come from the identity store under `config.root`.
    Use it from one event loop at a time.
    """

    def __init__(self, config: ServeConfig) -> None:
        """Raises as `fetch_bundle` for `config.model`, which is "demo", a folder or s3://bucket/prefix."""
        bundle = fetch_bundle(config.model, config.sha256)
        ref = BundleRef(config.model, bundle.digest)
        self._speech = SpeechEncoderStage(ref, config.speech)
        self._motion = MotionSamplerStage(ref, config.motion)
        self._decoder = FrameDecoderStage(ref, config.decoder, config.root)
        size, chunk = self._decoder.shape()
        self.facts = ModelFacts(
            bundle.record.name, bundle.digest, size, chunk, self._motion.config(), self._speech.windows()
        )

    async def encode(self, samples: Floats) -> Reply[Floats]:
        """See `Stages.encode`."""
        return await self._speech.encode(samples)

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        """See `Stages.sample`."""
        return await self._motion.sample(call)

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        """See `Stages.identify`."""
        return await self._decoder.identify(identity)

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        """See `Stages.decode`."""
        return await self._decoder.decode(call)
