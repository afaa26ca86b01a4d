"""One training sample of the speech encoder: a roughened crop of a recording, and what is to be heard in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ifmdm_core.speech import normalise
from ifmdm_core.training.items import SAMPLES_PER_FRAME, SpokenClip
from ifmdm_core.training.speech_augment import change_speed, mask_spans, roughen
from ifmdm_core.training.speech_clusters import mel_tokens
from ifmdm_core.training.speech_dropout import SampleDropout
from ifmdm_core.training.speech_model import STRIDE
from ifmdm_core.training.speech_statistics import SpeechStatistics

Array = NDArray[np.float32]


class SpeechAugmentation(BaseModel):
    """What is done to recordings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int = Field(40, ge=16, description="frames of a crop, at 25 a second")
    speed: float = Field(0.14, ge=0, lt=1, description="largest change of speed and pitch, in log")
    rough: float = Field(1.0, ge=0, le=1, description="strength of gain, equaliser, reverberation and noise")
    gain_db: float = Field(4.0, ge=0, description="largest change of level after normalising, dB")
    masked: float = Field(0.1, ge=0, lt=1, description="share of tokens that the encoder does not hear")
    synthetic: float = Field(
        0.15, ge=0, lt=1, description="share of samples replaced by synthetic speech with known mouth shapes"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of channels that a sample drops")


@dataclass(frozen=True)
class SpeechBatch:
    """b crops of T frames and t tokens."""

    audio: Tensor
    """[b, T * 640], normalised and roughened."""
    lips: Tensor
    """[b, T, L] in units of their deviation; zeros for synthetic speech."""
    mouth: Tensor
    """[b, T, 3]: viseme number, opening, rounding of synthetic speech; zeros for clips."""
    spoken: Tensor
    """[b, T] 1 where there are lips, else 0."""
    synthetic: Tensor
    """[b, T] 1 where mouth shapes are known, else 0."""
    clusters: Tensor
    """[b, t] int64."""
    masked: Tensor
    """[b, t] bool: tokens that are not heard."""
    kept: Tensor
    """[b, places, hidden] bool, see `SampleDropout`."""

    def to(self, device: torch.device) -> SpeechBatch:
        """The same batch on another device."""
        return SpeechBatch(
            *(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self))
        )

    def counts(self) -> Tensor:
        """[5]: frames with lips, pairs of them, frames of synthetic speech, masked tokens, samples."""
        pairs = self.spoken[:, 1:] * self.spoken[:, :-1]
        values = (self.spoken.sum(), pairs.sum(), self.synthetic.sum(), self.masked.sum().float())
        return torch.stack([*values, torch.full_like(values[0], len(self.audio))])


class CropMaker:
    """Makes samples from clips; random through the sample's own generator alone."""

    def __init__(
        self,
        statistics: SpeechStatistics,
        augmentation: SpeechAugmentation,
        dropout: SampleDropout,
    ) -> None:
        self.statistics, self.augmentation, self._dropout = statistics, augmentation, dropout
        self._deviation = statistics.tensors["deviation"].numpy()
        self._babble = statistics.tensors["babble"].float().numpy()  # [R, n]
        self._mouths = statistics.tensors["mouths"].numpy()  # [R, T, 3]

    def make(self, clips: Sequence[tuple[np.random.Generator, SpokenClip]]) -> SpeechBatch:
        """The batch of some clips, each with its sample's generator."""
        rows = [self._sample(rng, clip) for rng, clip in clips]
        return SpeechBatch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _sample(self, rng: np.random.Generator, clip: SpokenClip) -> tuple[Tensor, ...]:
        a = self.augmentation
        is_babble = rng.random() < a.synthetic
        samples, values = clip.samples, clip.lips / self._deviation
        if is_babble:
            number = int(rng.integers(len(self._babble)))
            samples, values = self._babble[number], self._mouths[number]
        factor = float(np.exp(rng.uniform(-a.speed, a.speed)))
        need = min(len(values), int(np.ceil(a.frames * factor)) + 1)
        first = int(rng.integers(len(values) - need + 1))
        there = min(a.frames, int((need - 1) / factor) + 1)  # frames of the crop that the recording has
        part = samples[first * SAMPLES_PER_FRAME : (first + need) * SAMPLES_PER_FRAME]
        sound, followed = change_speed(part, values[first : first + need], factor, there)
        lips = np.zeros((a.frames, len(self._deviation)), np.float32)
        mouth = np.zeros((a.frames, 3), np.float32)
        known = np.zeros((2, a.frames), np.float32)
        known[int(is_babble), :there] = 1
        if is_babble:
            at = np.minimum((np.arange(there) * factor).round().astype(int), need - 1)
            followed[:, 0] = values[first + at, 0]  # classes do not interpolate
            mouth[:there] = followed
        else:
            lips[:there] = followed
        audio, clusters, masked = self._heard(rng, sound)
        kept = torch.from_numpy(self._dropout.draw(rng))
        spoken, synthetic = torch.from_numpy(known)
        return (
            audio,
            torch.from_numpy(lips),
            torch.from_numpy(mouth),
            spoken,
            synthetic,
            clusters,
            masked,
            kept,
        )

    def _heard(self, rng: np.random.Generator, sound: Array) -> tuple[Tensor, Tensor, Tensor]:
        """Audio as the encoder gets it, clusters and masks of its tokens, of the sound of a crop [n]."""
        a = self.augmentation
        whole = np.zeros(a.frames * SAMPLES_PER_FRAME, np.float32)
        clean = torch.from_numpy(sound)[None]  # [1, n]
        centres = self.statistics.tensors["centres"]
        background = self._babble[int(rng.integers(len(self._babble)))]
        others = torch.from_numpy(np.resize(background, len(sound)))[None]
        rough = normalise(roughen(normalise(clean) * 0.1, rng, a.rough, others))[0]
        rough = rough * 10 ** (rng.uniform(-a.gain_db, a.gain_db) / 20)
        audio = torch.from_numpy(whole.copy())
        audio[: len(sound)] = rough.float()
        whole[: len(sound)] = sound
        clusters = torch.cdist(mel_tokens(torch.from_numpy(whole)[None])[0], centres).argmin(-1)  # [t]
        masked = mask_spans(rng, (1, len(clusters)), a.masked)[0]
        masked[len(sound) // STRIDE :] = False
        return audio, clusters, masked
