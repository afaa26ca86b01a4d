"""Speech features on video frames, from any Wav2Vec2 or HuBERT checkpoint (paper, section 3.3; speech condition).

The encoder turns 16 kHz audio into tokens (50 a second for the usual checkpoints); frames take the linear
interpolation between the tokens around their time. Long audio goes through overlapping windows (`speech_windows`),
so memory does not grow with duration, and any span of frames can be had alone with the very values that the whole
would give.
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
from ifmdm_core.speech_windows import SAMPLE_RATE, SpeechWindows, interpolate_tokens, speech_frames

NORMALISATION_FLOOR = 10.0 ** (-50 / 20)
"""Windows quieter than -50 dBFS are not amplified further: room tone stays room tone."""

Samples = NDArray[np.float32]


def normalise(samples: Tensor) -> Tensor:
    """Zero mean and unit variance over the last axis, with the deviation floored at -50 dBFS."""
    centred = samples - samples.mean(-1, keepdim=True)
    deviation = centred.square().mean(-1, keepdim=True).sqrt()
    return centred / deviation.clamp_min(NORMALISATION_FLOOR)


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
        stride = int(np.prod(config.conv_stride))
        receptive = 1
        for kernel, step in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            receptive = (receptive - 1) * step + kernel
        self.windows = SpeechWindows(
            stride=stride,
            receptive=receptive,
            window=max(4, round(window_s * SAMPLE_RATE / stride)),
            overlap=round(overlap_s * SAMPLE_RATE / stride),
            dim=config.hidden_size * (len(layers) if combine == "concat" else 1),
        )
        """How audio is cut; with it alone, windows can be encoded anywhere."""
        if not 0 < 2 * self.windows.overlap < self.windows.window:
            raise BadInput(
                f"speech windows of {window_s} s with {overlap_s} s overlap",
                fix="keep the overlap above 0 and below half a window",
            )

    @property
    def stride(self) -> int:
        """Samples between tokens."""
        return self.windows.stride

    @property
    def receptive(self) -> int:
        """Samples that one token sees before the transformer."""
        return self.windows.receptive

    @property
    def dim(self) -> int:
        """Width of a feature."""
        return self.windows.dim

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
        tokens = self.forward(torch.from_numpy(np.ascontiguousarray(samples))[None])[0]
        whole = interpolate_tokens(tokens, self.windows.frame_positions(len(windowed), fps).to(tokens.device))
        cosine = torch.nn.functional.cosine_similarity(windowed, whole, dim=1)
        return float(cosine[fps // 2 : len(cosine) - fps // 2].mean())

    def _span(self, samples: Samples, first: int, count: int, fps: int, cache: dict[int, Tensor]) -> Tensor:
        if samples.ndim != 1 or not len(samples):
            raise BadInput(f"speech samples of shape {samples.shape}", fix="give mono audio [n] with n > 0")
        if not np.isfinite(samples).all():
            raise BadInput("speech samples hold NaN or infinity", fix="decode the audio again")
        if not count:
            return torch.zeros(0, self.dim, device=self.model.device)
        wanted = self.windows.needed(len(samples), first, count, fps)
        for stale in [k for k in cache if k < wanted[0]]:
            del cache[stale]
        for k in wanted:
            if k not in cache:
                piece = samples[self.windows.samples_of(k, len(samples))]
                cache[k] = self.forward(torch.from_numpy(np.array(piece, np.float32))[None])[0]
        return self.windows.blend(cache, len(samples), first, count, fps)

    @torch.no_grad()
    def forward(self, windows: Tensor) -> Tensor:
        """Windows of samples [B, n] of one length, in one pass: tokens float32 [B, t, dim] on the model's device."""
        num_tokens = self.windows.num_tokens(windows.shape[1])
        short = self.receptive - windows.shape[1]
        if short > 0:
            windows = torch.nn.functional.pad(windows, (0, short))
        if self.normalised:
            windows = torch.stack([normalise(window) for window in windows])
        inputs = windows.to(self.model.device, self.model.dtype)
        states = self.model(inputs, output_hidden_states=True).hidden_states  # depth x [B, t, hidden]
        chosen = [states[layer][:, :num_tokens].float() for layer in self.layers]
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
