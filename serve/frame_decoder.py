"""Stage three on Serve: a portrait and motion in, closed groups of pictures out.

A replica keeps the appearance features of the portraits it painted last; requests come to it by a consistent hash of
the portrait's digest, so that the next chunk of a video usually finds them.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ifmdm_core.autoencoder import Identity
from ifmdm_core.errors import BadInput, Conflict
from ifmdm_core.frame_decoder import FrameDecoder
from ifmdm_core.media.gop import Frames, encode_gop
from serve.appearance_cache import AppearanceCache
from serve.batches import Batches, Done
from serve.config import DecoderConfig
from serve.identities import IdentityStore, StoredPortrait
from serve.messages import ChunkCall, Floats, IdentityRef, Reply
from serve.replica import BundleRef, Replica

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class _Known:
    """A portrait that can be painted now."""

    portrait: StoredPortrait
    identity: Identity
    seconds: float
    """What it took to fetch and encode."""

    @property
    def nbytes(self) -> int:
        return self.portrait.nbytes + self.identity.nbytes


class FrameDecoderStage:
    """A replica of the frame decoder; chunks of one portrait share a batch."""

    def __init__(self, bundle: BundleRef, config: DecoderConfig, root: str) -> None:
        self._replica = Replica(config)
        opened = bundle.open()
        self._decoder = FrameDecoder.of(
            opened,
            self._replica.device,
            dtype=PRECISIONS[config.precision],
            chunk=config.chunk,
            compile=config.compile,
        )
        self._store = IdentityStore(root)
        self._crf, self._compiled = config.crf, config.compile
        self._cache: AppearanceCache[IdentityRef, _Known] = AppearanceCache(
            config.cache_mb * 1_000_000, lambda known: known.nbytes
        )
        self._batches = Batches(self._paint, lambda work: work[0].identity, config.batch, config.batch_wait_s)
        self._opener = ThreadPoolExecutor(1, "portraits")
        self._encoder = ThreadPoolExecutor(config.threads, "encoder")

    def shape(self) -> tuple[int, int]:
        """Side of the model's frames in pixels, and frames of one call."""
        return self._decoder.size, self._decoder.chunk

    async def identify(self, identity: IdentityRef) -> Reply[Floats]:
        """The motion float32 [20] of a stored portrait; its appearance features are at hand afterwards.

        Raises NotFound, Conflict as `IdentityStore.get`; Conflict when it was aligned for another size of model.
        """
        began = time.monotonic()
        known, hit = await self._known(identity)
        motion: Floats = known.identity.motion[0].float().cpu().numpy()
        seconds = 0.0 if hit else known.seconds
        waited = max(0.0, time.monotonic() - began - seconds)
        return self._replica.reply(Done(motion, seconds, waited, 1), hit)

    async def decode(self, call: ChunkCall) -> Reply[bytes]:
        """One closed group of pictures (see `media.gop`).

        Raises as `identify`; BadInput for motion that is none.
        """
        if call.motion.ndim != 2 or call.motion.shape[1] != 20 or not 0 < len(call.motion) <= 1000:
            raise BadInput(f"motion of shape {call.motion.shape}", fix="give [n, 20] with n from 1 to 1000")
        known, hit = await self._known(call.identity)
        done = await self._batches.run((call, known))
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        gop = await loop.run_in_executor(self._encoder, self._encode, call, known.portrait, done.value)
        seconds = done.seconds + time.monotonic() - began + (0.0 if hit else known.seconds)
        return self._replica.reply(Done(gop, seconds, done.waited, done.batch), hit)

    def check_health(self) -> None:
        """Raises when this replica should be replaced."""
        self._batches.check()

    async def _known(self, identity: IdentityRef) -> tuple[_Known, bool]:
        async def make() -> _Known:
            return await asyncio.get_running_loop().run_in_executor(self._opener, self._open, identity)

        return await self._cache.get(identity, make)

    def _open(self, identity: IdentityRef) -> _Known:
        began = time.monotonic()
        portrait = self._store.get(identity)
        side, size = len(portrait.crop), self._decoder.size
        if side != size:
            raise Conflict(
                f"portrait {identity.digest[:12]}… was registered for a model of {side} pixels, this one has {size}",
                fix="register it again",
            )
        return _Known(portrait, self._decoder.identity(portrait.crop), time.monotonic() - began)

    def _paint(self, calls: list[tuple[ChunkCall, _Known]]) -> list[Frames]:
        """Frames of each call, all of one portrait, painted as one run of motion."""
        identity = calls[0][1].identity
        if self._compiled:  # for one length only
            return [self._decoder.frames(identity, torch.tensor(call.motion)) for call, _ in calls]
        motion = np.concatenate([call.motion for call, _ in calls])
        frames = self._decoder.frames(identity, torch.from_numpy(motion))
        return np.split(frames, np.cumsum([len(call.motion) for call, _ in calls])[:-1])

    def _encode(self, call: ChunkCall, portrait: StoredPortrait, frames: Frames) -> bytes:
        return encode_gop(portrait.opened(call.size).finish(frames), call.fps, self._crf)
