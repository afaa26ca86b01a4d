"""The stage 1 network: starts as the source picture, sizes, precision, cost."""

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from ifmdm_core.autoencoder import Autoencoder, AutoencoderConfig

SMALL = AutoencoderConfig(
    size=64, encoder_channels=(8, 12, 16, 16), extra_convs=(False, True, True, True), latent_dim=32, flow_size=16,
    pose_fields=3, expression_fields=5, field_channels=8, generator_channels=(12, 8), motion_size=32,
    motion_channels=(8, 12, 16), part_channels=(8, 8),
)  # fmt: skip


@pytest.fixture
def model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(SMALL).eval()


def portrait(count: int = 1, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_starts_as_the_source_picture(preset):
    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig.preset(preset)).eval()
    image = portrait(size=model.config.size)
    with torch.no_grad():
        identity = model.encode_identity(image)
        frame = model.decode(identity, identity.motion)
    assert frame.shape == image.shape
    assert (frame - image).abs().max() <= 1 / 255


def test_flow_is_zero_at_rest_and_only_there(model):
    with torch.no_grad():
        identity = model.encode_identity(portrait())
        flow, _, _ = model.flow(identity, torch.cat([identity.motion, identity.motion + 0.3]))
    assert flow[0].abs().max() < 1e-8  # rounding differs between one row and two
    assert flow[1].abs().max() > 1e-4


def test_motion_is_20_numbers_within_one(model):
    motion = model.encode_motion(portrait(3))
    assert motion.shape == (3, 20)
    assert motion.dtype == torch.float32
    assert motion.abs().max() < 1


def test_frames_of_several_portraits_in_one_batch(model):
    images = portrait(2)
    motion = torch.rand(4, 20) - 0.5
    with torch.no_grad():
        together = model.decode(model.encode_identity(images), motion)
        apart = [
            model.decode(model.encode_identity(images[i : i + 1]), motion[2 * i : 2 * i + 2])
            for i in range(2)
        ]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=0)


def test_a_chunk_decodes_as_its_frames_do(model):
    with torch.no_grad():
        identity = model.encode_identity(portrait())
        motion = torch.rand(5, 20) - 0.5
        chunk = model.decode(identity, motion)
        single = torch.cat([model.decode(identity, m[None]) for m in motion])
    torch.testing.assert_close(chunk, single, atol=1e-5, rtol=0)


def test_motion_stays_float32_in_bfloat16(model):
    image = portrait()
    with torch.no_grad():
        full = model.encode_motion(image)
        model.set_precision(torch.bfloat16)
        identity = model.encode_identity(image)
        frame = model.decode(identity, identity.motion)
    assert identity.motion.dtype == identity.fields.dtype == torch.float32
    assert frame.dtype == torch.float32
    torch.testing.assert_close(identity.motion, full, atol=0.05, rtol=0)


def test_the_motion_basis_is_orthonormal_and_kept_between_frames(model):
    directions = model.basis.directions()
    torch.testing.assert_close(directions.T @ directions, torch.eye(20), atol=1e-5, rtol=0)
    assert model.basis.directions() is directions
    model.train()
    assert model.basis.directions() is not directions


def test_every_weight_learns(model):
    model.train()
    identity = model.encode_identity(portrait(2))
    frames = model.decode(identity, torch.rand(4, 20) - 0.5)
    (frames.square().mean() + identity.motion.sum()).backward()
    # A zero-initialised last layer hides what lies before it on the first step; nothing else may be unused.
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    assert unused == set()


def test_the_paper_preset_takes_a_training_step():
    from ifmdm_core.autoencoder.losses import gradient_l1, pyramid_l1

    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig.preset("paper"))
    source, target = portrait(2, 512)[:1], portrait(2, 512)[1:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    before = model.generator.paint.weight.clone()
    identity = model.encode_identity(source)
    output = model.decode(identity, model.encode_motion(target))
    loss = (pyramid_l1(output, target) + gradient_l1(output, target)).mean()
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert (model.generator.paint.weight - before).abs().max() > 0


def test_the_paper_decoder_stays_within_38_gflop_a_frame():
    model = Autoencoder(AutoencoderConfig.preset("paper")).eval()
    with torch.no_grad():
        identity = model.encode_identity(portrait(size=512))
        with FlopCounterMode(display=False) as counter:
            model.decode(identity, identity.motion)
    assert counter.get_total_flops() <= 38e9


def test_impossible_sizes_are_refused():
    with pytest.raises(ValidationError, match="generator_channels has 6 levels"):
        AutoencoderConfig(generator_channels=(8, 8, 8, 8, 8, 8))
    with pytest.raises(ValidationError, match="flow_size must be one of"):
        AutoencoderConfig(flow_size=50)


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(model):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    image, motion = portrait(), torch.rand(3, 20) - 0.5
    with torch.no_grad():
        expected = model.decode(model.encode_identity(image), motion)
        model.cuda()
        frames = model.decode(model.encode_identity(image.cuda()), motion.cuda())
    torch.testing.assert_close(frames.cpu(), expected, atol=2 / 255, rtol=0)
