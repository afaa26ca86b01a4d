"""Speech features on video frames, from any Wav2Vec2 or HuBERT checkpoint (paper, section 3.3; speech condition).

The encoder turns 16 kHz audio into tokens (50 a second for the usual checkpoints); frames take the linear
interpolation between the tokens around their time. Long audio goes through windows on a fixed grid that overlap
and are cross-faded, so memory does not grow with duration, and any span of frames can be had alone with the very
values that the whole would give.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ifmdm_core.errors import BadInput, NotFound, Unsupported

SAMPLE_RATE = 16000
NORMALISATION_FLOOR = 10.0 ** (-50 / 20)
"""Windows quieter than -50 dBFS are not amplified further: room tone stays room tone."""

Samples = NDArray[np.float32]


def normalise(samples: Tensor) -> Tensor:
    """Zero mean and unit variance over the last axis, with the deviation floored at -50 dBFS."""
    centred = samples - samples.mean(-1, keepdim=True)
    deviation = centred.square().mean(-1, keepdim=True).sqrt()
    return centred / deviation.clamp_min(NORMALISATION_FLOOR)


def interpolate_tokens(tokens: Tensor, positions: Tensor) -> Tensor:
    """Tokens [..., t, dim] at fractional `positions` [frames], linear, held at the ends: [..., frames, dim]."""
    last = tokens.shape[-2] - 1
    positions = positions.clamp(0, last)
    low = positions.floor().long().clamp(max=max(last - 1, 0))
    share = (positions - low).to(tokens.dtype)[:, None]  # [frames, 1]
    high = (low + 1).clamp(max=last)
    return tokens[..., low, :] * (1 - share) + tokens[..., high, :] * share


def speech_frames(num_samples: int, fps: int) -> int:
    """Video frames that 16 kHz audio lasts: floor(samples * fps / 16000 + 1/2), in integers."""
    return (2 * num_samples * fps + SAMPLE_RATE) // (2 * SAMPLE_RATE)


class SpeechEncoder:
    """A frozen Wav2Vec2 or HuBERT model whose hidden states are read at video frames."""

    def __init__(
        self,
        model: Any,
        layers: Sequence[int] = (-1,),
        combine: Literal["concat", "mean"] = "concat",
        normalised: bool = True,
        window_s: float = 10.0,
        overlap_s: float = 2.0,
    ) -> None:
        """Wrap a loaded transformers model.

        Args:
            model: `Wav2Vec2Model` or `HubertModel`; put into eval mode.
            layers: hidden states to read: 0 is the transformer's input, -1 the last layer.
            combine: concatenate the layers' features or average them.
            normalised: the checkpoint expects zero-mean unit-variance audio.
            window_s: seconds of audio in one forward pass. The overlap with the next window is `overlap_s`.

        Raises:
            BadInput: a layer that the model does not have, or an overlap not below half a window.
        """
        config = model.config
        depth = config.num_hidden_layers + 1
        wrong = [layer for layer in layers if not -depth <= layer < depth]
        if wrong or not layers:
            raise BadInput(
                f"speech layers {list(layers)} do not exist in a model of {depth} hidden states",
                fix=f"choose from {-depth} to {depth - 1}",
            )
        self.model = model.eval().requires_grad_(False)
        self.layers = tuple(layers)
        self.combine = combine
        self.normalised = normalised
        self.stride = int(np.prod(config.conv_stride))
        """Samples between tokens."""
        self.receptive = 1
        """Samples that one token sees before the transformer."""
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.receptive = (self.receptive - 1) * stride + kernel
        self.dim: int = config.hidden_size * (len(layers) if combine == "concat" else 1)
        self._window = max(4, round(window_s * SAMPLE_RATE / self.stride))  # tokens
        self._overlap = round(overlap_s * SAMPLE_RATE / self.stride)
        if not 0 < 2 * self._overlap < self._window:
            raise BadInput(
                f"speech windows of {window_s} s with {overlap_s} s overlap",
                fix="keep the overlap above 0 and below half a window",
            )

    @classmethod
    def load(
        cls,
        source: str | Path,
        layers: Sequence[int] = (-1,),
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> SpeechEncoder:
        """Load a checkpoint: a folder with config.json and model.safetensors, or a name on the Hugging Face hub.

        Args:
            source: folder or hub name, e.g. `facebook/wav2vec2-base-960h`. A name of an existing folder is a folder.
            options: further arguments of the constructor.

        Raises:
            NotFound: neither a folder nor a hub name that can be had from here.
            Unsupported: another architecture, another sample rate, or weights that are not safetensors.
            BadInput: the weights do not fill the model.
        """
        from transformers import AutoConfig, HubertModel, Wav2Vec2Model
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        folder = Path(source)
        local = folder.is_dir()
        if local and not list(folder.glob("*.safetensors")):
            raise Unsupported(
                f"{folder} has no .safetensors weights",
                fix="convert the checkpoint; pickled weights are refused",
            )
        try:
            config = AutoConfig.from_pretrained(str(source), local_files_only=local)
        except (OSError, ValueError) as error:
            raise NotFound(
                f"no speech checkpoint {str(source)!r}: {str(error).splitlines()[0]}",
                fix="give a folder with config.json and model.safetensors, or a hub name reachable from here",
            ) from None
        classes = {"wav2vec2": Wav2Vec2Model, "hubert": HubertModel}
        if config.model_type not in classes:
            raise Unsupported(
                f"{source} is a {config.model_type!r} model", fix="give a Wav2Vec2 or HuBERT checkpoint"
            )
        try:
            model, loading = classes[config.model_type].from_pretrained(
                str(source),
                local_files_only=local,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
            )
        except OSError as error:
            raise Unsupported(
                f"{source}: {str(error).splitlines()[0]}", fix="give a checkpoint with model.safetensors"
            ) from None
        missing = [key for key in loading["missing_keys"] if "masked_spec_embed" not in key]
        if missing:
            raise BadInput(
                f"{source}: weights lack {missing[0]} and {len(missing) - 1} more",
                fix="give a whole checkpoint",
            )
        options.setdefault("normalised", _expects_normalised(folder if local else None, config))
        return cls(model.to(device), layers, **options)

    def frame_positions(self, num_frames: int, fps: float = 25, first_frame: int = 0) -> Tensor:
        """Token position of each frame's time, float64 [num_frames]; token k is centred on its receptive field."""
        times = torch.arange(first_frame, first_frame + num_frames, dtype=torch.float64) / fps
        return (times * SAMPLE_RATE - self.receptive / 2) / self.stride

    def encode(self, samples: Samples, fps: int = 25, num_frames: int | None = None) -> Tensor:
        """Features of a whole recording.

        Args:
            samples: float32 [n], 16 kHz mono in [-1, 1]; sample 0 plays at frame 0's time.
            fps: frames per second.
            num_frames: frames wanted; as long as the audio lasts when None. Beyond the audio the last token holds.

        Returns:
            float32 [num_frames, dim] on the model's device.
        """
        total = speech_frames(len(samples), fps) if num_frames is None else num_frames
        cache: dict[int, Tensor] = {}
        spans = [
            self._span(samples, first, min(250, total - first), fps, cache) for first in range(0, total, 250)
        ]
        device = self.model.device
        return torch.cat(spans) if spans else torch.zeros(0, self.dim, device=device)

    def encode_span(self, samples: Samples, first_frame: int, num_frames: int, fps: int = 25) -> Tensor:
        """Features of frames [first_frame, first_frame + num_frames) alone: the same values as in `encode`.

        Computes only the one or two windows that the span touches, so a stream can ask window by window.
        """
        return self._span(samples, first_frame, num_frames, fps, {})

    def window_fidelity(self, samples: Samples, fps: int = 25) -> float:
        """Mean cosine between windowed and whole-file features, half a second at both ends left out.

        1 when the audio fits one window. Needs memory for the whole file.

        Raises:
            BadInput: less than 1.5 s of audio.
        """
        if len(samples) < 1.5 * SAMPLE_RATE:
            raise BadInput(f"{len(samples) / SAMPLE_RATE:.2f} s of audio", fix="give at least 1.5 s")
        windowed = self.encode(samples, fps)
        total = self._num_tokens(len(samples))
        tokens = self._forward(torch.from_numpy(np.ascontiguousarray(samples)), total)
        whole = interpolate_tokens(tokens, self.frame_positions(len(windowed), fps).to(tokens.device))
        cosine = torch.nn.functional.cosine_similarity(windowed, whole, dim=1)
        return float(cosine[fps // 2 : len(cosine) - fps // 2].mean())

    def _num_tokens(self, num_samples: int) -> int:
        return max(1, (num_samples - self.receptive) // self.stride + 1)

    def _span(self, samples: Samples, first: int, count: int, fps: int, cache: dict[int, Tensor]) -> Tensor:
        if samples.ndim != 1 or not len(samples):
            raise BadInput(f"speech samples of shape {samples.shape}", fix="give mono audio [n] with n > 0")
        if not np.isfinite(samples).all():
            raise BadInput("speech samples hold NaN or infinity", fix="decode the audio again")
        total = self._num_tokens(len(samples))
        positions = self.frame_positions(count, fps, first).clamp(0, total - 1)
        if not count:
            return torch.zeros(0, self.dim, device=self.model.device)
        low, high = int(positions[0]), min(total, int(positions[-1]) + 2)
        tokens = self._blend(samples, low, high, total, cache)  # [high - low, dim]
        return interpolate_tokens(tokens, (positions - low).to(tokens.device))

    def _blend(self, samples: Samples, low: int, high: int, total: int, cache: dict[int, Tensor]) -> Tensor:
        """Tokens [low, high) of the recording, cross-faded from the windows of the grid that hold them."""
        hop = self._window - self._overlap
        last = max(0, -(-(total - self._overlap) // hop) - 1)  # the last window that adds tokens
        mixed = torch.zeros(high - low, self.dim, device=self.model.device)
        weights = torch.zeros(high - low, 1, device=self.model.device)
        wanted = range(max(0, (low - self._window) // hop), min(last, high // hop) + 1)
        for stale in [k for k in cache if k < wanted.start]:
            del cache[stale]
        for k in wanted:
            start, stop = k * hop, min(total, k * hop + self._window)
            a, b = max(low, start), min(high, stop)
            if a >= b:
                continue
            if k not in cache:
                end = (stop - 1) * self.stride + self.receptive
                piece = samples[start * self.stride : end]
                cache[k] = self._forward(torch.from_numpy(np.array(piece, np.float32)), stop - start)
            fade = self._fade(stop - start, k > 0, k < last).to(mixed.device)
            mixed[a - low : b - low] += fade[a - start : b - start, None] * cache[k][a - start : b - start]
            weights[a - low : b - low] += fade[a - start : b - start, None]
        return mixed / weights

    def _fade(self, length: int, before: bool, after: bool) -> Tensor:
        """Weights [length] of a window's tokens: ramps over the overlaps, nothing for the outermost quarter."""
        quarter = self._overlap / 4
        ramp = ((torch.arange(self._overlap) + 0.5 - quarter) / (2 * quarter)).clamp(1e-6, 1.0)
        fade = torch.ones(length)
        if before:
            fade[: self._overlap] *= ramp[:length]
        if after:
            fade[-self._overlap :] *= ramp.flip(0)
        return fade

    @torch.no_grad()
    def _forward(self, samples: Tensor, num_tokens: int) -> Tensor:
        """One window of samples [n] through the model: float32 [num_tokens, dim]."""
        short = self.receptive - len(samples)
        if short > 0:
            samples = torch.nn.functional.pad(samples, (0, short))
        samples = normalise(samples) if self.normalised else samples
        inputs = samples[None].to(self.model.device, self.model.dtype)  # [1, n]
        states = self.model(inputs, output_hidden_states=True).hidden_states  # depth x [1, t, hidden]
        chosen = [states[layer][0, :num_tokens].float() for layer in self.layers]
        return torch.cat(chosen, -1) if self.combine == "concat" else torch.stack(chosen).mean(0)


def _expects_normalised(folder: Path | None, config: Any) -> bool:
    """What the checkpoint's preprocessor says; without one, layer-norm front ends expect normalised audio."""
    path = folder / "preprocessor_config.json" if folder else None
    if path is not None and path.is_file():
        settings = json.loads(path.read_text())
        rate = settings.get("sampling_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise Unsupported(f"{folder} expects {rate} Hz audio", fix="give a 16 kHz checkpoint")
        return bool(settings.get("do_normalize", True))
    return True
