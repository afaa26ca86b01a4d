"""The implicit motion generator: a diffusion transformer over the frames of a window (paper 3.3).

Shapes: B windows, N frames, d width, M = 20 motion dimensions, S speech dimensions.

*Temporal modulation*: every frame has its own adaLN-Zero modulation, from diffusion time and that frame's speech
(and, the same for all frames, log window length, statistics, hint). *Residual channel concatenation*: before each
block concat(speech, noised motion) goes through a zero-initialised linear layer and is added to the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ifmdm_core.motion.config import MOTION_DIM, MotionConfig


@dataclass(frozen=True)
class Conditions:
    """What a window is generated from, in the model's units; `has_*` False puts the learned "absent" in its place."""

    speech: Tensor
    """[B, N, S] speech features as the encoder gives them."""
    mean: Tensor
    """[B, 20] mean of z over the new frames, m^mu."""
    std: Tensor
    """[B, 20] standard deviation of z over the new frames, m^sigma."""
    hint: Tensor
    """[B, 20] the portrait's motion m^i in (-1, 1)."""
    valid: Tensor
    """[B, N] bool: frames that exist; the rest is padding."""
    context: Tensor
    """[B, N] bool: frames given clean, a prefix of the window (none at all at a first window)."""
    has_speech: Tensor
    """[B] bool."""
    has_mean: Tensor
    """[B] bool."""
    has_std: Tensor
    """[B] bool."""
    has_hint: Tensor
    """[B] bool."""

    def without(self, *names: str) -> Conditions:
        """The same with "speech", "mean", "std" or "hint" absent in the whole batch."""
        absent = {f"has_{name}": torch.zeros_like(self.has_speech) for name in names}
        return Conditions(**{**self.__dict__, **absent})


def _sinusoid(value: Tensor, dim: int) -> Tensor:
    """[...] -> [..., dim], frequencies 1 .. 1/10000."""
    half = dim // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=value.device) / half)  # [half]
    angle = value[..., None].float() * frequency  # [..., half]
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: x [B, H, N, D], cos and sin [N, D/2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Block(nn.Module):
    """Attention and MLP, each modulated and gated per frame; concat(speech, z) is added first."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        d, hidden = config.width, int(config.width * config.mlp_ratio)
        self.heads = config.heads
        self.concat = nn.Linear(d + MOTION_DIM, d)
        self.modulation = nn.Linear(d, 6 * d)
        self.norm1 = nn.LayerNorm(d, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(d, elementwise_affine=False)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, d))
        self.drop = nn.Dropout(config.dropout)
        for zero in (self.concat, self.modulation):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def forward(
        self,
        x: Tensor,
        speech_z: Tensor,
        c: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
        kept: Tensor | None = None,
    ) -> Tensor:
        b, n, d = x.shape
        x = x + self.concat(speech_z)  # [B, N, d]
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)  # each [B, N, d]
        h = self.norm1(x) * (1 + scale1) + shift1  # [B, N, d]
        q, k, v = self.qkv(h).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each [B, H, N, D]
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [B, H, N, D]
        h = self.out(h.transpose(1, 2).reshape(b, n, d))  # [B, N, d]
        x = x + gate1 * (self.drop(h) if kept is None else h * kept[:, :1])  # [B, N, d]
        h = self.norm2(x) * (1 + scale2) + shift2  # [B, N, d]
        h = self.mlp(h)
        return x + gate2 * (self.drop(h) if kept is None else h * kept[:, 1:])


class MotionGenerator(nn.Module):
    """Predicts clean z or the noise in it, for windows of any length.

    The buffers are statistics of the training set, part of the weights: z = (m - m^i - offset_mean) / offset_std;
    `sigma` holds per dimension the median window's standard deviation of m by number of new frames (`lengths`);
    `lip_map` and `lip_bias` map m to lip measurements in units of their spread, first row opening; `lip_mean` is what
    speaking lips measure on average.
    """

    LENGTHS = (8.0, 16.0, 24.0, 32.0, 40.0, 50.0, 60.0)
    """New frames of the windows whose spread `sigma` holds."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        d, m = config.width, MOTION_DIM
        self.motion_in = nn.Linear(m + 1, d)
        self.time_in = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.length_in = nn.Linear(1, d)
        self.speech_in = nn.Conv1d(config.speech_dim, d, 3, padding=1)
        self.mean_in = nn.Linear(m, d)
        self.std_in = nn.Linear(m, d)
        self.hint_in = nn.Linear(m, d)
        self.absent = nn.ParameterDict(
            {
                name: nn.Parameter(0.02 * torch.randn(d))
                for name in ("speech", "mean", "std", "hint", "context")
            }
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d, elementwise_affine=False)
        self.modulation = nn.Linear(d, 2 * d)
        self.motion_out = nn.Linear(d, m)
        for zero in (self.modulation, self.motion_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

        self.offset_mean: Tensor
        self.offset_std: Tensor
        self.hint_mean: Tensor
        self.hint_std: Tensor
        self.speech_mean: Tensor
        self.speech_std: Tensor
        self.lengths: Tensor
        self.sigma: Tensor
        self.lip_map: Tensor
        self.lip_bias: Tensor
        self.lip_mean: Tensor
        self.register_buffer("offset_mean", torch.zeros(m))
        self.register_buffer("offset_std", torch.full((m,), 0.15))
        self.register_buffer("hint_mean", torch.zeros(m))
        self.register_buffer("hint_std", torch.full((m,), 0.3))
        self.register_buffer("speech_mean", torch.zeros(config.speech_dim))
        self.register_buffer("speech_std", torch.ones(config.speech_dim))
        self.register_buffer("lengths", torch.tensor(self.LENGTHS))
        self.register_buffer("sigma", torch.full((7, m), 0.1))
        self.register_buffer("lip_map", torch.zeros(config.lip_dim, m))
        self.register_buffer("lip_bias", torch.zeros(config.lip_dim))
        self.register_buffer("lip_mean", torch.zeros(config.lip_dim))

    def to_z(self, motion: Tensor, hint: Tensor) -> Tensor:
        """m [..., N, 20] relative to the hint [..., 20] -> z [..., N, 20]."""
        return (motion - hint[..., None, :] - self.offset_mean) / self.offset_std

    def to_motion(self, z: Tensor, hint: Tensor) -> Tensor:
        """Inverse of `to_z`."""
        return z * self.offset_std + self.offset_mean + hint[..., None, :]

    def opening_step(self) -> Tensor:
        """[20]: the smallest change of m, in units of its variation, that opens the mouth by one unit."""
        natural = self.lip_map[0] * self.offset_std  # [20], opening by z
        return natural * self.offset_std / natural.square().sum().clamp(min=1e-12)

    def median_sigma(self, length: int) -> Tensor:
        """[20]: standard deviation of m in the training set's median window with `length` new frames."""
        at = min(max(float(length), float(self.lengths[0])), float(self.lengths[-1]))
        right = int(torch.searchsorted(self.lengths, at).clamp(1, len(self.lengths) - 1))
        low, high = float(self.lengths[right - 1]), float(self.lengths[right])
        return torch.lerp(self.sigma[right - 1], self.sigma[right], (at - low) / (high - low))

    def forward(self, z: Tensor, t: Tensor, given: Conditions, dropout: Tensor | None = None) -> Tensor:
        """z [B, N, 20] noised, clean where `given.context`; t [B] in 0..T-1 -> prediction [B, N, 20].

        `dropout` [B, depth, 2, d] multiplies the channels of each block's two branches, the same at every frame; it
        takes the place of the network's own dropout, so that a sample can bring its own. Values at invalid frames
        mean nothing.
        """
        n = z.shape[1]
        valid, context = given.valid[..., None], given.context[..., None].to(z.dtype)  # [B, N, 1] each
        speech = (given.speech - self.speech_mean) / self.speech_std * valid  # [B, N, S]
        speech = self.speech_in(speech.transpose(1, 2)).transpose(1, 2)  # [B, N, d]
        speech = torch.where(given.has_speech[:, None, None], speech, self.absent["speech"])  # [B, N, d]

        z_valid = z * valid  # [B, N, 20]
        x = self.motion_in(torch.cat([z_valid, context], dim=-1))  # [B, N, d]
        speech_z = torch.cat([speech, z_valid.to(speech.dtype)], dim=-1)  # [B, N, d + 20]

        # Context frames are clean, so they are at time 0 whatever the others' noise.
        time = torch.where(given.context, torch.zeros_like(t)[:, None], t[:, None])  # [B, N]
        new = (given.valid & ~given.context).sum(1, keepdim=True)  # [B, 1]
        length = torch.log(new.clamp(min=1).to(z.dtype) / 40.0)  # [B, 1]
        first = ~given.context.any(1, keepdim=True)  # [B, 1]
        hint = (given.hint - self.hint_mean) / self.hint_std  # [B, 20]
        whole = (
            self.length_in(length)  # each [B, d]
            + self._or_absent("mean", given.has_mean, self.mean_in(given.mean))
            + self._or_absent("std", given.has_std, self.std_in(torch.log(given.std + 0.05)))
            + self._or_absent("hint", given.has_hint, self.hint_in(hint))
            + first * self.absent["context"]
        )
        c = (
            self.time_in(_sinusoid(time, self.config.width).to(z.dtype)) + speech + whole[:, None]
        )  # [B, N, d]
        c = F.silu(c)

        angle = torch.outer(torch.arange(n, device=z.device), self._frequencies(z.device))  # [N, D/2]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        mask = given.valid[:, None, None, :]  # [B, 1, 1, N]
        for number, block in enumerate(self.blocks):
            kept = None if dropout is None else dropout[:, number].to(x.dtype)  # [B, 2, d]
            x = block(x, speech_z, c, mask, cos, sin, kept)
        shift, scale = self.modulation(c).chunk(2, dim=-1)  # [B, N, d] each
        return self.motion_out(self.norm(x) * (1 + scale) + shift).to(z.dtype)

    def _or_absent(self, name: str, present: Tensor, value: Tensor) -> Tensor:
        return torch.where(present[:, None], value, self.absent[name])

    def _frequencies(self, device: torch.device) -> Tensor:
        """Rotary frequencies [D/2]; base 100 suits windows of up to about a hundred frames."""
        half = self.config.width // self.config.heads // 2
        return 100.0 ** (-torch.arange(half, device=device) / half)
