"""The network: padding, conditions, context and what starts at zero."""

from __future__ import annotations

import torch

from ifmdm_core.motion import Conditions, MotionConfig, MotionGenerator


def conditions(
    batch: int, frames: int, valid: int | None = None, context: int = 0, seed: int = 1
) -> Conditions:
    g = torch.Generator().manual_seed(seed)
    frame = torch.arange(frames)[None].expand(batch, -1)
    yes = torch.ones(batch, dtype=torch.bool)
    return Conditions(
        speech=torch.randn(batch, frames, 6, generator=g),
        mean=torch.randn(batch, 20, generator=g),
        std=torch.rand(batch, 20, generator=g),
        hint=torch.rand(batch, 20, generator=g),
        valid=frame < (frames if valid is None else valid),
        context=frame < context,
        has_speech=yes,
        has_mean=yes,
        has_std=yes,
        has_hint=yes,
    )


def cut(given: Conditions, frames: int) -> Conditions:
    values = dict(given.__dict__)
    for name in ("speech", "valid", "context"):
        values[name] = values[name][:, :frames]
    return Conditions(**values)


def test_padding_changes_nothing(generator):
    given = conditions(2, 20, valid=14, context=4)
    z, t = torch.randn(2, 20, 20), torch.tensor([3, 700])
    with torch.no_grad():
        padded = generator(z, t, given)[:, :14]
        alone = generator(z[:, :14], t, cut(given, 14))
    assert torch.allclose(padded, alone, atol=1e-5)


def test_each_condition_matters_and_absence_hides_its_value(generator):
    given, other = conditions(1, 12), conditions(1, 12, seed=2)
    z, t = torch.randn(1, 12, 20), torch.tensor([500])
    with torch.no_grad():
        base = generator(z, t, given)
        for name in ("speech", "mean", "std", "hint"):
            changed = Conditions(**{**given.__dict__, name: getattr(other, name)})
            assert not torch.allclose(generator(z, t, changed), base, atol=1e-4), name
            absent = generator(z, t, given.without(name))
            assert not torch.allclose(absent, base, atol=1e-4), name
            assert torch.equal(generator(z, t, changed.without(name)), absent), name
        assert not torch.allclose(generator(z, t + 300, given), base, atol=1e-4)


def test_speech_of_a_frame_moves_that_frame_most(generator):
    """Temporal modulation is per frame."""
    given = conditions(1, 12)
    speech = given.speech.clone()
    speech[:, 6] += 1.0
    changed = Conditions(**{**given.__dict__, "speech": speech})
    z, t = torch.randn(1, 12, 20), torch.tensor([500])
    with torch.no_grad():
        moved = (generator(z, t, changed) - generator(z, t, given)).abs().sum((0, 2))  # [12]
    assert int(moved.argmax()) in (5, 6, 7)
    assert moved[6] > 3 * moved[0]


def test_starts_silent_with_closed_gates():
    model = MotionGenerator(MotionConfig.preset("demo", 6)).eval()
    given = conditions(1, 12)
    with torch.no_grad():
        assert model(torch.randn(1, 12, 20), torch.tensor([9]), given).abs().max() == 0
    for block in model.blocks:
        assert block.concat.weight.abs().max() == 0
        assert block.modulation.weight.abs().max() == 0


def test_z_and_motion_are_inverse(generator):
    motion, hint = torch.rand(2, 5, 20) - 0.5, torch.rand(2, 20) - 0.5
    assert torch.allclose(generator.to_motion(generator.to_z(motion, hint), hint), motion, atol=1e-6)


def test_median_sigma_is_interpolated_and_held(build_generator):
    model = build_generator()
    model.sigma.copy_(model.lengths[:, None].expand(-1, 20))
    assert torch.allclose(model.median_sigma(28), torch.full((20,), 28.0))
    assert torch.allclose(model.median_sigma(2), torch.full((20,), 8.0))
    assert torch.allclose(model.median_sigma(500), torch.full((20,), 60.0))
