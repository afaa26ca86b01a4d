"""The demo speech encoder before training: a small real `Wav2Vec2Model` that starts with ears.

Its first convolution is set to a bank of Gabor filters on the mel scale (four phases each, so that the GELU after
it rectifies bands into magnitudes) and to constants, which let the layer norm tell loud from quiet; the second
sums phases into bands and their changes. A random front end needs hours to find that.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ifmdm_core.metrics.mel import mel_centres
from ifmdm_core.speech import SAMPLE_RATE, interpolate_tokens

BANDS = 40
CLUSTERS = 100


STRIDE, RECEPTIVE = 320, 720
"""Samples between tokens, and that one token sees before the transformer, of the demo encoder."""


def demo_model(hidden: int = 256, layers: int = 4, heads: int = 4) -> Any:
    """A new `Wav2Vec2Model`, layer-norm variant, 50 tokens a second, about 3.7 M parameters by default."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        vocab_size=32,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        conv_kernel=(400, 3),
        conv_stride=(160, 2),
        conv_dim=(192, 256),
        num_feat_extract_layers=2,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        hidden_dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        feat_proj_dropout=0.1,
        layerdrop=0.0,
        mask_time_prob=0.05,  # above 0 so that the mask embedding exists; training passes its own masks
        mask_feature_prob=0.0,
    )
    model = Wav2Vec2Model(config)
    first, second = (layer.conv for layer in model.feature_extractor.conv_layers)
    with torch.no_grad():
        _gabor_bank(first)
        _band_sums(second)
    return model


def _gabor_bank(conv: nn.Conv1d) -> None:
    """Fill [192, 1, 400]: 40 bands x 4 phases, 16 constants from quiet to loud, 16 left random."""
    size = conv.kernel_size[0]
    time = np.arange(size) - (size - 1) / 2
    centres = mel_centres(BANDS + 2, 60.0, 7600.0)
    for band in range(BANDS):
        frequency, spacing = centres[band + 1], centres[band + 2] - centres[band]
        length = float(np.clip(2 * SAMPLE_RATE / spacing, 96, size))
        hann = np.where(np.abs(time) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * time / length), 0.0)
        for phase in range(4):
            wave = hann * np.cos(2 * np.pi * frequency * time / SAMPLE_RATE + phase * np.pi / 2)
            wave *= np.sqrt(max(frequency, 250.0) / 500.0) / np.linalg.norm(
                wave
            )  # speech falls off with frequency
            conv.weight[4 * band + phase, 0] = torch.from_numpy(wave.astype(np.float32))
    assert conv.bias is not None
    conv.bias.zero_()
    conv.weight[160:176] = 0.0
    conv.bias[160:176] = torch.logspace(-1.5, 0.6, 16)


def _band_sums(conv: nn.Conv1d) -> None:
    """Fill [256, 192, 3]: per band each tap, all taps, rises and falls; 16 left random."""
    taps = torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [-1, 0, 1], [1, 0, -1]], dtype=torch.float32
    )
    conv.weight[: 6 * BANDS] *= 0.1
    for row, tap in enumerate(taps):
        for band in range(BANDS):
            conv.weight[row * BANDS + band, 4 * band : 4 * band + 4] += 0.5 * tap


class SpeechHeads(nn.Module):
    """What training reads from the features; all linear, so that the features themselves must hold lips."""

    def __init__(self, hidden: int, lips: int, visemes: int, embedding: int = 48) -> None:
        super().__init__()
        self.lips = nn.Linear(hidden, lips)
        self.clusters = nn.Linear(hidden, CLUSTERS)
        self.visemes = nn.Linear(hidden, visemes + 2)
        """Logits of visemes, then opening and rounding."""
        self.audio = nn.Linear(hidden, embedding)
        self.motion = nn.Sequential(
            nn.Conv1d(lips, 96, 5, padding=2, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv1d(96, embedding, 3, padding=1, padding_mode="replicate"),
        )
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def contrast(self, features: Tensor, lips: Tensor) -> Tensor:
        """Mean of `contrast_frames` over clips without gaps."""
        return self.contrast_frames(features, lips, torch.ones(lips.shape[:2], device=lips.device)).mean()

    def contrast_frames(self, features: Tensor, lips: Tensor, valid: Tensor) -> Tensor:
        """InfoNCE within each clip: which frame's lips go with this frame's sound. Neighbours do not count.

        Args:
            features: [b, T, hidden]. lips: standardised targets [b, T, lips]. valid: [b, T], 0 where frames are
                missing; what comes out there means nothing.

        Returns:
            [b, T].
        """
        audio = nn.functional.normalize(self.audio(features), dim=-1)  # [b, T, e]
        motion = nn.functional.normalize(self.motion(lips.transpose(1, 2)).transpose(1, 2), dim=-1)
        logits = audio @ motion.transpose(1, 2) * self.sharpness.exp().clamp(max=50.0)  # [b, T, T]
        frames = torch.arange(logits.shape[1], device=logits.device)
        near = (frames[:, None] - frames).abs() == 1
        other = frames[:, None] != frames
        missing = (valid[:, None, :] * valid[:, :, None] == 0) & other  # [b, T, T]
        logits = logits.masked_fill(near | missing, -1e4)
        target = frames.expand(len(logits), -1)
        cross = nn.functional.cross_entropy
        there = cross(logits.transpose(1, 2), target, reduction="none")  # [b, T]
        return 0.5 * (there + cross(logits, target, reduction="none"))


def tokens_to_frames(tokens: Tensor, frames: int) -> Tensor:
    """Training batch [b, t, hidden] of clips that start at sample 0 to 25 fps frames [b, frames, hidden]."""
    positions = (torch.arange(frames, dtype=torch.float64) / 25 * SAMPLE_RATE - RECEPTIVE / 2) / STRIDE
    return interpolate_tokens(tokens, positions.to(tokens.device))
