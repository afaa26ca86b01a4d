"""Stage two on Serve: windows of speech features in, motion out."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch

from ifmdm_core.motion import MotionSampler
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.diffusion import scheduler_for
from ifmdm_core.motion.sampler import WindowRequest
from serve.batches import Batches
from serve.config import StageConfig
from serve.messages import MotionWindow, Reply, WindowCall
from serve.replica import BundleRef, Replica


class MotionSamplerStage:
    """A replica of the motion sampler; windows of several requests share a batch when their denoising is alike."""

    def __init__(self, bundle: BundleRef, config: StageConfig) -> None:
        self._replica = Replica(config)
        opened = bundle.open()
        self._sampler = MotionSampler(
            opened.motion().to(self._replica.device),
            opened.record.speaking_lips,
            mouth_limit=opened.record.mouth_limit,
        )
        scheduler_for("dpm++", 2, self._sampler.config)  # diffusers' import is slow; pay for it while loading
        self._batches = Batches(self._sample, _alike, config.batch, config.batch_wait_s)

    def config(self) -> MotionConfig:
        """The motion generator's configuration, by which callers plan windows."""
        return self._sampler.config

    async def sample(self, call: WindowCall) -> Reply[MotionWindow]:
        """The new frames of one window.

        Raises BadInput when speech does not fit the context or the model.
        """
        return self._replica.reply(await self._batches.run(call))

    def check_health(self) -> None:
        """Raises when this replica should be replaced."""
        self._batches.check()

    def _sample(self, calls: list[WindowCall]) -> list[MotionWindow]:
        model = self._sampler.generator
        windows = []
        for motion in self._sampler.sample_windows([_request(call) for call in calls]):  # [n, 20]
            opening = motion @ model.lip_map[0] + model.lip_bias[0]  # [n]
            windows.append(MotionWindow(motion.cpu().numpy(), opening.detach().cpu().numpy()))
        return windows


def _alike(call: WindowCall) -> Hashable:
    """What must be the same in a batch: the schedule, and which branches guidance takes."""
    asked = call.controls
    return asked.sampler, asked.steps, asked.guidance != 1.0, asked.statistics_guidance != 1.0


def _request(call: WindowCall) -> WindowRequest:
    # Copies: arrays from Ray's object store are read-only, which torch cannot say.
    return WindowRequest(
        speech=torch.from_numpy(np.array(call.speech)),
        hint=torch.from_numpy(np.array(call.hint)),
        index=call.index,
        context=None if call.context is None else torch.from_numpy(np.array(call.context)),
        controls=call.controls,
    )
