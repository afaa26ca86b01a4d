"""From speech features to motion vectors: guidance, controls and windows (paper 3.1, 3.4).

`sample_windows` is stateless: what a window needs (finished frames before it, its number, the seed) comes with the
request, several requests make one batch, and each gets what it would get alone (within 1e-4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.motion.config import MOTION_DIM
from ifmdm_core.motion.diffusion import LIMIT, denoise
from ifmdm_core.motion.mouth import closed_mouth
from ifmdm_core.motion.sequence import MotionSequence
from ifmdm_core.motion.transformer import Conditions, MotionGenerator
from ifmdm_core.motion.windows import WindowRequest

MEDIAN_INTENSITY = 0.3
"""The intensity at which motion is as strong as in the training set's median clip."""

FADE = 8
"""Frames over which a shift of the mean fades in after context."""

SpeechSpans = Callable[[int, int], Tensor]
"""(first frame, number of frames) -> speech features [n, S]."""


def window_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of a window's noise; the same on every machine and device."""
    number = int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(number & (2**63 - 1))


class MotionSampler:
    """Draws motion from a generator whose weights and statistics are loaded."""

    def __init__(
        self,
        generator: MotionGenerator,
        speaking_lips: float = 0.0,
        *,
        has_hint: bool = True,
        mouth_limit: float | None = None,
    ) -> None:
        """`speaking_lips` in [0, 1]: how far the mean's mouth opening goes from the portrait's to a speaker's.

        The portrait's mouth is usually closed, a speaker's on average is not; a mean with closed lips would keep
        them from opening. 0 is the paper's m^mu. Without `has_hint` the network does not see m^i; motion is still
        told as a difference from it. With a `mouth_limit`, hints that open the mouth further are closed down to it
        first (`motion.mouth`); without, hints are taken as they are, closed by the caller or not.
        """
        self.generator = generator.eval()
        self.config = generator.config
        self.speaking_lips = speaking_lips
        self.mouth_limit = mouth_limit
        self._has_hint = has_hint

    def generate(
        self,
        speech: Tensor | SpeechSpans,
        hint: Tensor,
        controls: RenderControls | None = None,
        num_frames: int | None = None,
    ) -> Iterator[Tensor]:
        """Yields motion [n, 20] as windows finish, in all exactly the number of frames.

        Args:
            speech: features [N, S], or a function that gives those of a span (then `num_frames` says how many).
            hint: [20] or [1, 20], m^i.
        """
        controls = controls or RenderControls()
        source = _span_of(speech) if isinstance(speech, Tensor) else speech
        if num_frames is None and isinstance(speech, Tensor):
            num_frames = len(speech)
        if num_frames is None:
            raise BadInput("a speech function needs num_frames", fix="say how many frames the audio has")
        sequence = MotionSequence(self.config, hint.reshape(MOTION_DIM), controls, num_frames)
        while sequence.window is not None:
            yield sequence.accept(self.sample_window(sequence.request(source(*sequence.speech_span))))

    def sample_window(self, request: WindowRequest) -> Tensor:
        """The new frames [n, 20] of one window, in (-1, 1), on the generator's device."""
        return self.sample_windows([request])[0]

    @torch.inference_mode()
    def sample_windows(self, requests: Sequence[WindowRequest]) -> list[Tensor]:
        """The new frames [n_i, 20] of each request, all in one batch.

        Raises BadInput when requests differ in sampler or steps, or speech does not fit the context or the model.
        """
        first = requests[0].controls
        for request in requests:
            self._check(request)
            if (request.controls.sampler, request.controls.steps) != (first.sampler, first.steps):
                raise BadInput("windows in one batch differ in sampler or steps", fix="group them by both")
        if self.mouth_limit is not None:
            requests = [replace(request, hint=self._closed(request.hint)) for request in requests]
        given, clean, hint = self._conditions(requests)  # clean z [B, N, 20], hint [B, 20]
        generators = [window_generator(r.controls.seed, r.index) for r in requests]
        longest = max(self.config.window, clean.shape[1])
        noise = torch.stack([torch.randn(longest, MOTION_DIM, generator=g) for g in generators])
        noise = noise[:, : clean.shape[1]].to(clean)  # [B, N, 20]
        model = self.generator
        limit = torch.full_like(hint, LIMIT)
        low = model.to_z(-limit[:, None], hint)  # [B, 1, 20]
        high = model.to_z(limit[:, None], hint)
        z = denoise(
            self._guided(given, [r.controls for r in requests]), noise, (low, high), given.context[..., None],
            clean, generators, first.sampler, first.steps, self.config,
            self._steered(given, [r.controls for r in requests]),
        )  # fmt: skip
        motion = model.to_motion(z, hint).clamp(-LIMIT, LIMIT)  # [B, N, 20]
        spans = [(0 if r.context is None else len(r.context), len(r.speech)) for r in requests]
        return [motion[i, start:stop].float() for i, (start, stop) in enumerate(spans)]

    def _closed(self, hint: Tensor) -> Tensor:
        model = self.generator
        return closed_mouth(model, hint.to(model.offset_mean).reshape(MOTION_DIM), self.mouth_limit)

    def _check(self, request: WindowRequest) -> None:
        held = 0 if request.context is None else len(request.context)
        if len(request.speech) <= held:
            raise BadInput(f"speech of {len(request.speech)} frames has no new frame after {held} of context")
        if request.speech.shape[1] != self.config.speech_dim:
            raise BadInput(
                f"speech features have {request.speech.shape[1]} dimensions, the model takes {self.config.speech_dim}",
                fix="use the speech encoder of the same bundle",
            )

    def _conditions(self, requests: Sequence[WindowRequest]) -> tuple[Conditions, Tensor, Tensor]:
        """Conditions of the batch, z of the context frames [B, N, 20], hints [B, 20]."""
        model = self.generator
        like, device = model.offset_mean, model.offset_mean.device
        # Training never saw windows below min_window: the last speech frame is repeated up to it.
        lengths = [max(len(r.speech), self.config.min_window) for r in requests]
        longest = max(lengths)
        rows: dict[str, list[Tensor]] = {name: [] for name in ("speech", "clean", "mean", "std", "hint")}
        for request, length in zip(requests, lengths, strict=True):
            speech = request.speech.to(like)
            speech = torch.cat([speech, speech[-1:].expand(length - len(speech), -1)])
            hint = request.hint.to(like).reshape(MOTION_DIM)
            context = hint.new_zeros(0, MOTION_DIM) if request.context is None else request.context.to(like)
            mean, std = self._statistics(hint, context, length - len(context), request.controls)
            rows["speech"].append(F.pad(speech, (0, 0, 0, longest - length)))
            rows["clean"].append(F.pad(model.to_z(context, hint), (0, 0, 0, longest - len(context))))
            rows["mean"].append(mean)
            rows["std"].append(std)
            rows["hint"].append(hint)
        stacked = {name: torch.stack(values) for name, values in rows.items()}
        frame = torch.arange(longest, device=device)[None]  # [1, N]
        held = [0 if r.context is None else len(r.context) for r in requests]

        def flags(values: list[bool]) -> Tensor:
            return torch.tensor(values, device=device)

        given = Conditions(
            speech=stacked["speech"],
            mean=stacked["mean"],
            std=stacked["std"],
            hint=stacked["hint"],
            valid=frame < torch.tensor(lengths, device=device)[:, None],
            context=frame < torch.tensor(held, device=device)[:, None],
            has_speech=flags([True] * len(requests)),
            has_mean=flags([r.controls.pose != "free" for r in requests]),
            has_std=flags([r.controls.intensity is not None for r in requests]),
            has_hint=flags([self._has_hint] * len(requests)),
        )
        return given, stacked["clean"], stacked["hint"]

    def _statistics(
        self, hint: Tensor, context: Tensor, length: int, controls: RenderControls
    ) -> tuple[Tensor, Tensor]:
        """m^mu and m^sigma in units of z, [20] each (zeros where the control leaves them open)."""
        model = self.generator
        last = context[-1] if len(context) else hint  # m^{N-1} of the window before
        mean = torch.lerp(hint, last, _pose_share(controls))  # [20] in m
        if self.speaking_lips:
            lack = model.lip_mean[0] - (model.lip_map[0] @ mean + model.lip_bias[0])
            mean = (mean + self.speaking_lips * lack * model.opening_step()).clamp(-LIMIT, LIMIT)
        strength = MEDIAN_INTENSITY if controls.intensity is None else controls.intensity
        std = model.median_sigma(length) * (strength / MEDIAN_INTENSITY)
        return model.to_z(mean[None], hint)[0], std / model.offset_std

    def _steered(self, given: Conditions, controls: Sequence[RenderControls]) -> Callable[[Tensor], Tensor]:
        """Moves the mean of clean z [B, N, 20] over new frames to m^mu, wholly at "hold", not at all at "evolve".

        The network alone follows m^mu loosely, and errors add up from window to window. Where m^mu follows the last
        frame that is wanted (steering to it would random-walk out of the motion space). Mouth opening is left to the
        speech: a portrait's mouth is closed, a speaker's on average is not. After context the shift fades in, so
        that the border does not jump.
        """
        model = self.generator
        new = given.valid & ~given.context  # [B, N]
        place = new.cumsum(1)  # [B, N], 1 at the first new frame
        ramp = (place / FADE).clamp(max=1.0)
        weight = torch.where(given.context.any(1, keepdim=True), ramp, torch.ones_like(ramp)) * new  # [B, N]
        count = new.sum(1, keepdim=True)  # [B, 1]
        held = torch.tensor([1.0 - _pose_share(c) for c in controls], device=new.device)  # [B]
        share = count / weight.sum(1, keepdim=True) * (held * given.has_mean)[:, None]  # [B, 1]
        opening, back = (
            model.lip_map[0] * model.offset_std,
            model.opening_step() / model.offset_std,
        )  # [20] each

        def steer(z: Tensor) -> Tensor:
            mean = (z * new[..., None]).sum(1) / count  # [B, 20]
            shift = given.mean - mean
            shift = (shift - (shift @ opening)[:, None] * back) * share  # [B, 20]
            return z + weight[..., None] * shift[:, None]

        return steer

    def _guided(
        self, given: Conditions, controls: Sequence[RenderControls]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The network with classifier-free guidance, all branches in one batch.

        out = f(all) + (g_speech - 1) (f(all) - f(no speech)) + (g_stat - 1) (f(all) - f(no statistics)):
        at scale 1 the conditional branch alone. Every branch keeps hint and context.
        """
        model = self.generator
        branches = [given]
        scales: list[Tensor] = []
        for values, names in (
            ([c.guidance for c in controls], ("speech",)),
            ([c.statistics_guidance for c in controls], ("mean", "std")),
        ):
            if any(value != 1.0 for value in values):
                branches.append(given.without(*names))
                scales.append(
                    torch.tensor(values, device=given.hint.device)[:, None, None] - 1.0
                )  # [B, 1, 1]
        if len(branches) == 1:
            return lambda z, t: model(z, t, given)
        joined = Conditions(
            **{name: torch.cat([getattr(b, name) for b in branches]) for name in given.__dict__}
        )
        count = len(branches)

        def predict(z: Tensor, t: Tensor) -> Tensor:
            full, *others = model(z.repeat(count, 1, 1), t.repeat(count), joined).chunk(count)
            out = full
            for scale, other in zip(scales, others, strict=True):
                out = out + scale * (full - other)
            return out

        return predict


def _span_of(features: Tensor) -> SpeechSpans:
    """Features [N, S] as a function of a span."""
    return lambda first, count: features[first : first + count]


def _pose_share(controls: RenderControls) -> float:
    """How far m^mu goes from m^i (0) to m^{N-1} (1); without meaning where pose is "free"."""
    return float({"hold": 0.0, "evolve": 1.0, "free": 0.0}.get(str(controls.pose), controls.pose))
