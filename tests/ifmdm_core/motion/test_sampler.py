"""Seeds, batches, lengths, seams, guidance and controls of the sampler."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput
from ifmdm_core.motion import MotionSampler, WindowRequest
from ifmdm_core.motion.sampler import window_generator

FAST = RenderControls(steps=2)


def speech(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, 6, generator=torch.Generator().manual_seed(seed))


HINT = 0.3 * torch.rand(20, generator=torch.Generator().manual_seed(5)) - 0.15


def whole(
    sampler: MotionSampler, frames: int, controls: RenderControls = FAST, seed: int = 0
) -> torch.Tensor:
    return torch.cat(list(sampler.generate(speech(frames, seed), HINT, controls)))


@pytest.fixture(scope="module")
def sampler(generator) -> MotionSampler:
    return MotionSampler(generator)


@pytest.mark.parametrize("name", ["ddim", "dpm++", "ddpm"])
def test_same_seed_same_bits_other_seed_other_motion(sampler, name):
    controls = RenderControls(steps=3, sampler=name, seed=7)
    first, second = whole(sampler, 50, controls), whole(sampler, 50, controls)
    assert torch.equal(first, second)
    assert not torch.allclose(
        first, whole(sampler, 50, RenderControls(steps=3, sampler=name, seed=8)), atol=1e-2
    )


def test_noise_depends_on_seed_and_window():
    draws = [torch.randn(4, generator=window_generator(*key)) for key in [(0, 0), (0, 1), (1, 0), (0, 0)]]
    assert torch.equal(draws[0], draws[3])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200))
def test_any_length_gives_exactly_its_frames_inside_the_motion_space(sampler, frames):
    motion = whole(sampler, frames, RenderControls(steps=1))
    assert motion.shape == (frames, 20)
    assert motion.abs().max() < 1


def requests(steps: int = 3) -> list[WindowRequest]:
    controls = RenderControls(steps=steps, guidance=2.5)
    context = 0.1 * torch.randn(6, 20, generator=torch.Generator().manual_seed(9))
    return [
        WindowRequest(speech(30), HINT, 0, None, controls),
        WindowRequest(speech(14, 1), -HINT, 4, None, controls.model_copy(update={"seed": 3, "pose": "free"})),
        WindowRequest(speech(30, 2), HINT, 2, context, controls.model_copy(update={"guidance": 1.0})),
        WindowRequest(speech(4, 3), HINT, 1, None, controls.model_copy(update={"statistics_guidance": 1.5})),
        WindowRequest(speech(9, 4), HINT, 1, context, controls.model_copy(update={"intensity": None})),
    ]


def test_a_batch_gives_what_each_would_get_alone(sampler):
    together = sampler.sample_windows(requests())
    for request, motion in zip(requests(), together, strict=True):
        alone = sampler.sample_window(request)
        held = 0 if request.context is None else len(request.context)
        assert motion.shape == (len(request.speech) - held, 20)
        assert (motion - alone).abs().max() < 1e-4


def test_a_window_is_the_same_whoever_computes_it(sampler):
    """Windows done again from their inputs alone repeat the stream."""
    from ifmdm_core.motion.windows import blend, plan_windows

    features = speech(70)
    stream = torch.cat(list(sampler.generate(features, HINT, FAST)))
    second = plan_windows(70, sampler.config)[1]
    first = sampler.sample_window(WindowRequest(features[:30], HINT, 0, None, FAST))
    start = second.first - second.context
    again = sampler.sample_window(
        WindowRequest(features[start : second.last], HINT, 1, stream[start : second.first], FAST)
    )
    fused = blend(first[second.first :], again)
    assert torch.allclose(
        fused[: second.finished - second.first], stream[second.first : second.finished], atol=1e-6
    )


def test_overlap_joins_windows(build_generator):
    """Frames predicted twice lie between both predictions."""
    sampler = MotionSampler(build_generator())
    motion = whole(sampler, 60)
    steps = (motion[1:] - motion[:-1]).norm(dim=1)
    seam = steps[24:30].max()
    assert seam < 3 * steps.max() / 2 + 1e-6
    assert torch.isfinite(motion).all()


def test_guidance_one_is_the_conditional_branch(sampler, generator):
    given, clean, _ = sampler._conditions(requests()[:2])
    z, t = torch.randn_like(clean), torch.tensor([400, 400])
    plain = sampler._guided(given, [RenderControls(guidance=1.0)] * 2)
    strong = sampler._guided(given, [RenderControls(guidance=3.0, statistics_guidance=2.0)] * 2)
    with torch.inference_mode():
        full = generator(z, t, given)
        deaf = generator(z, t, given.without("speech"))
        open_ = generator(z, t, given.without("mean", "std"))
        assert torch.equal(plain(z, t), full)
        assert torch.allclose(strong(z, t), full + 2 * (full - deaf) + (full - open_), atol=1e-4)


@pytest.mark.parametrize(
    ("pose", "expected"), [("hold", 0.0), (0.0, 0.0), (0.25, 0.25), ("evolve", 1.0), (1.0, 1.0)]
)
def test_pose_moves_the_mean_from_hint_to_the_last_frame(sampler, generator, pose, expected):
    context = torch.full((6, 20), 0.5)
    mean, _ = sampler._statistics(HINT, context, 20, RenderControls(pose=pose))
    wanted = generator.to_z(torch.lerp(HINT, context[-1], expected)[None], HINT)[0]
    assert torch.allclose(mean, wanted, atol=1e-5)
    first, _ = sampler._statistics(HINT, context[:0], 20, RenderControls(pose=pose))
    assert torch.allclose(first, generator.to_z(HINT[None], HINT)[0], atol=1e-5), (
        "no window before: the portrait's"
    )


def window_means(generator, pose: object, context: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of z over the new frames of a window, and the mean that was asked for."""
    held = torch.full((6, 20), 0.2) if context else None
    request = WindowRequest(speech(30), HINT, 0, held, RenderControls(steps=4, pose=pose))
    sampler = MotionSampler(generator)
    motion = sampler.sample_window(request)
    wanted, _ = sampler._statistics(HINT, HINT[None, :][:0] if held is None else held, 24, request.controls)
    return generator.to_z(motion, HINT).mean(0), wanted


@pytest.mark.parametrize("context", [False, True])
def test_a_held_pose_is_held_whatever_the_network_wants(generator, context):
    mean, wanted = window_means(generator, "hold", context)
    assert torch.allclose(mean, wanted, atol=0.02)
    evolving, target = window_means(generator, "evolve", context)
    assert not torch.allclose(evolving, target, atol=0.2), "an evolving pose is the network's own"


def test_holding_a_pose_leaves_the_mouth_opening_alone(build_generator):
    model = build_generator()
    model.lip_map[0, 7] = 10.0
    mean, wanted = window_means(model, "hold", False)
    others = [d for d in range(20) if d != 7]
    assert torch.allclose(mean[others], wanted[others], atol=0.02)
    assert (mean[7] - wanted[7]).abs() > 0.1


def test_speaking_lips_open_the_mean_and_move_nothing_else(build_generator):
    model = build_generator()
    model.lip_map[0, 7], model.lip_mean[0] = 10.0, 3.0
    plain, _ = MotionSampler(model)._statistics(HINT, HINT[None][:0], 20, FAST)
    open_, _ = MotionSampler(model, speaking_lips=1.0)._statistics(HINT, HINT[None][:0], 20, FAST)
    mean = model.to_motion(open_[None], HINT)[0]
    assert torch.allclose(10.0 * mean[7], torch.tensor(3.0), atol=1e-3)
    assert torch.allclose(open_[8:], plain[8:])


def test_free_pose_and_open_intensity_drop_their_conditions(sampler):
    made, _, _ = sampler._conditions(
        [replace(requests()[0], controls=RenderControls(pose="free", intensity=None)), requests()[0]]
    )
    assert made.has_mean.tolist() == [False, True]
    assert made.has_std.tolist() == [False, True]
    assert made.has_speech.all()
    assert made.has_hint.all()


def test_intensity_scales_the_median_window(sampler, generator):
    def std(intensity: float) -> torch.Tensor:
        return sampler._statistics(HINT, HINT[:0].reshape(0, 20), 24, RenderControls(intensity=intensity))[1]

    assert torch.allclose(std(0.3), generator.median_sigma(24) / generator.offset_std)
    assert torch.allclose(std(0.9), 3 * std(0.3))
    assert std(0.0).abs().max() == 0


def test_faults_are_told(sampler):
    one, two = requests()[:2]
    with pytest.raises(BadInput, match="sampler or steps"):
        sampler.sample_windows([one, replace(two, controls=RenderControls(steps=5))])
    with pytest.raises(BadInput, match="5 dimensions"):
        sampler.sample_window(replace(one, speech=torch.zeros(8, 5)))
    with pytest.raises(BadInput, match="no new frame"):
        sampler.sample_window(replace(one, speech=speech(6), context=torch.zeros(6, 20)))
    with pytest.raises(BadInput, match="num_frames"):
        next(sampler.generate(lambda first, count: speech(count), HINT, FAST))


def test_speech_may_be_a_function(sampler):
    features = speech(70)
    asked: list[tuple[int, int]] = []

    def source(first: int, count: int) -> torch.Tensor:
        asked.append((first, count))
        return features[first : first + count]

    motion = torch.cat(list(sampler.generate(source, HINT, FAST, 70)))
    assert torch.equal(motion, whole(sampler, 70))
    assert asked[0] == (0, 30), "a first window needs no later speech"
