"""Pictures alone: the same as the talking head's, in each precision, without a motion generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ifmdm_core.bundle import load_bundle
from ifmdm_core.controls import RenderControls
from ifmdm_core.frame_decoder import FrameDecoder
from ifmdm_core.talking_head import TalkingHead


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_paints_what_the_talking_head_paints(
    tiny_bundle: Path, crop: np.ndarray, dtype: torch.dtype
) -> None:
    head = TalkingHead.load(tiny_bundle, device="cpu", dtype=dtype)
    decoder = FrameDecoder.of(load_bundle(tiny_bundle), "cpu", dtype)
    assert (decoder.size, decoder.chunk) == (head.size, head.chunk) == (64, 8)
    identity = decoder.identity(crop)
    expected, hint = head.identity(head.open_portrait(crop, RenderControls(face="none")))
    assert torch.equal(identity.motion[0], hint)
    motion = hint + 0.1 * torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    frames = decoder.frames(identity, motion)
    assert (frames.shape, frames.dtype) == ((3, 64, 64, 3), np.uint8)
    assert np.array_equal(frames, head.frames(expected, motion))


def test_chunks_joined_are_the_frames_one_by_one(tiny_bundle: Path, crop: np.ndarray) -> None:
    decoder = FrameDecoder.of(load_bundle(tiny_bundle), "cpu", torch.float32)
    identity = decoder.identity(crop)
    motion = identity.motion + 0.1 * torch.randn(5, 20, generator=torch.Generator().manual_seed(2))
    together = decoder.frames(identity, motion).astype(int)
    apart = np.concatenate([decoder.frames(identity, row[None]) for row in motion])
    assert np.abs(together - apart).max() <= 1
