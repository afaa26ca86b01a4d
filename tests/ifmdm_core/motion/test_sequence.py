"""The state machine of a video's windows: what is asked for, what is finished, that asking again changes nothing."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.controls import RenderControls
from ifmdm_core.motion import MotionSampler
from ifmdm_core.motion.config import MotionConfig
from ifmdm_core.motion.sequence import MotionSequence

DEMO = MotionConfig.preset("demo", 4)
HINT = torch.linspace(-0.2, 0.2, 20)


def sequence(num_frames: int) -> MotionSequence:
    return MotionSequence(DEMO, HINT, RenderControls(seed=5), num_frames)


@given(st.integers(0, 400))
def test_where_windows_agree_all_frames_come_out_in_order(num_frames):
    """Frame f is the number f in every window: fused, it stays that, and context is the frames before."""
    made, out = sequence(num_frames), []
    while made.window is not None:
        window, (start, count) = made.window, made.speech_span
        assert (start, start + count) == (window.first - window.context, window.last)
        request = made.request(torch.zeros(count, 4))
        assert (request.index, request.controls.seed) == (window.index, 5)
        if window.context:
            assert request.context[:, 0].tolist() == list(range(start, window.first))
        else:
            assert request.context is None
        out.append(made.accept(torch.arange(window.first, window.last).float()[:, None].expand(-1, 20)))
    frames = torch.cat(out) if out else torch.zeros(0, 20)
    assert torch.equal(frames, torch.arange(num_frames).float()[:, None].expand(-1, 20))


def test_further_columns_are_fused_along_but_are_no_context():
    generator = torch.Generator().manual_seed(0)
    made, plain = sequence(90), sequence(90)
    while made.window is not None:
        motion = torch.randn(made.window.last - made.window.first, 20, generator=generator)
        measure = motion.sum(1, keepdim=True)
        done = made.accept(torch.cat([motion, measure], 1))
        assert torch.allclose(done[:, :20], plain.accept(motion))
        assert torch.allclose(done[:, 20], done[:, :20].sum(1), atol=1e-4)
        if made.window is not None:
            assert made.request(torch.zeros(1, 4)).context.shape == (10, 20)


def test_a_request_may_be_asked_for_again(generator):
    """What a lost call needs: the same request, with the same answer."""
    sampler, features = MotionSampler(generator), torch.randn(70, 6)
    controls = RenderControls(steps=2)
    made, out = MotionSequence(sampler.config, HINT, controls, 70), []
    while made.window is not None:
        first, count = made.speech_span
        span = features[first : first + count]
        once, again = (sampler.sample_window(made.request(span)) for _ in range(2))
        assert torch.equal(once, again)
        out.append(made.accept(again))
    assert torch.equal(torch.cat(out), torch.cat(list(sampler.generate(features, HINT, controls))))
