"""The grid of speech windows: what a span takes, and that tokens encoded anywhere blend to the encoder's values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ifmdm_core.speech import SpeechEncoder
from ifmdm_core.speech_windows import SpeechWindows
from tests.ifmdm_core.test_speech import TINY, noise

GRID = SpeechWindows(stride=320, receptive=400, window=50, overlap=15, dim=1)


@given(st.integers(1, 200_000), st.integers(0, 300), st.integers(1, 80), st.sampled_from([12, 25, 60]))
def test_positions_come_back_from_any_span(num_samples, first, count, fps):
    """Where token k is the number k, the feature of a frame is its own position: windows fit without seam or gap."""
    wanted = GRID.needed(num_samples, first, count, fps)
    assert wanted == list(range(wanted[0], wanted[-1] + 1))
    tokens = {}
    for k in wanted:
        piece = GRID.samples_of(k, num_samples)
        t = GRID.num_tokens(piece.stop - piece.start)
        tokens[k] = (torch.arange(t)[:, None] + piece.start // GRID.stride).float()
    got = GRID.blend(tokens, num_samples, first, count, fps)[:, 0]
    total = GRID.num_tokens(num_samples)
    assert torch.allclose(
        got.double(), GRID.frame_positions(count, fps, first).clamp(0, total - 1), atol=1e-3
    )


def test_windows_are_never_longer_than_said_and_only_needed_ones_are_named():
    samples = 20 * 16_000
    for first in range(0, 500, 7):
        wanted = GRID.needed(samples, first, 10)
        assert 1 <= len(wanted) <= 2
        for k in wanted:
            piece = GRID.samples_of(k, samples)
            assert piece.stop - piece.start <= (GRID.window - 1) * GRID.stride + GRID.receptive
    assert GRID.needed(samples, 3, 0) == []
    assert GRID.blend({}, samples, 3, 0).shape == (0, 1)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(Wav2Vec2Model(Wav2Vec2Config(**TINY)), layers=(0, -1), window_s=1.0, overlap_s=0.3)


def test_windows_encoded_apart_blend_to_the_encoders_features(encoder):
    samples, grid = noise(5.4), encoder.windows
    wanted = grid.needed(len(samples), 20, 60)
    pieces = [torch.from_numpy(samples[grid.samples_of(k, len(samples))].copy()) for k in wanted]
    tokens = {k: encoder.forward(piece[None])[0] for k, piece in zip(wanted, pieces, strict=True)}
    assert torch.equal(grid.blend(tokens, len(samples), 20, 60), encoder.encode_span(samples, 20, 60))


def test_windows_of_one_length_share_a_pass(encoder):
    loud, soft = noise(1.0, 0.3, seed=1), noise(1.0, 0.01, seed=2)
    both = encoder.forward(torch.from_numpy(np.stack([loud, soft])))
    assert both.shape == (2, encoder.windows.num_tokens(16_000), 32)
    for row, samples in zip(both, (loud, soft), strict=True):
        torch.testing.assert_close(
            row, encoder.forward(torch.from_numpy(samples)[None])[0], atol=1e-5, rtol=0
        )
