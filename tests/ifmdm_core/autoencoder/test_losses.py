"""Losses of stage 1 answer what they are asked."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from ifmdm_core.autoencoder.discriminator import PatchDiscriminator
from ifmdm_core.autoencoder.losses import (
    feature_matching,
    gradient_l1,
    hinge_discriminator,
    hinge_generator,
    mesh_flow_l1,
    pyramid_l1,
    r1_penalty,
    region,
)
from ifmdm_core.autoencoder.perceptual import PerceptualLoss
from ifmdm_core.errors import BadInput
from ifmdm_core.training.adversarial import Adversary, Judged
from tests.random_vgg import write_random_vgg


def test_differences_are_zero_for_equal_pictures_and_grow():
    a = torch.rand(2, 3, 32, 32)
    for loss in (pyramid_l1, gradient_l1):
        assert (loss(a, a) == 0).all()
        near, far = loss(a, a + 0.05 * torch.rand_like(a)), loss(a, a + 0.2 * torch.rand_like(a))
        assert ((far > near) & (near > 0)).all()


def test_region_cuts_the_square_around_points():
    picture = torch.zeros(1, 1, 64, 64)
    picture[:, :, 40:48, 16:24] = 1
    points = torch.tensor([[[17 / 64, 41 / 64], [23 / 64, 47 / 64]]])
    assert region(picture, points, 8, 0.5).min() == 1
    assert region(picture, points, 8, 4.0).mean() < 0.2


def test_mesh_flow_is_zero_exactly_for_the_true_displacement():
    source = torch.rand(1, 478, 2) * 0.5 + 0.25
    shift = torch.tensor([0.05, -0.03])
    flow = (-2 * shift)[None, :, None, None].expand(1, 2, 16, 16)
    ones = torch.ones(478)
    assert mesh_flow_l1(flow, source + shift, source, ones) < 1e-6
    missed = mesh_flow_l1(torch.zeros_like(flow), source + shift, source, ones)
    torch.testing.assert_close(missed, torch.tensor([0.16]))


def test_points_outside_the_picture_do_not_count():
    source = torch.full((1, 2, 2), 0.5)
    target = torch.tensor([[[0.5, 0.5], [1.4, 0.5]]])
    assert mesh_flow_l1(torch.zeros(1, 2, 8, 8), target, source, torch.ones(2)) == 0


def test_the_discriminator_learns_to_tell_noise_from_a_gradient():
    torch.manual_seed(0)
    net = PatchDiscriminator(width=8, layers=3)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    real = torch.linspace(0, 1, 32).expand(4, 3, 32, 32)
    losses = []
    for _ in range(30):
        fake = torch.rand(4, 3, 32, 32)
        watched = real.clone().requires_grad_()
        real_score, real_features = net(watched)
        fake_score, fake_features = net(fake)
        loss = (hinge_discriminator(real_score, fake_score) + 0.1 * r1_penalty([real_score], watched)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert feature_matching(real_features, fake_features).min() > 0
    assert (hinge_generator(fake_score) > hinge_generator(real_score)).all()


@pytest.fixture(scope="module")
def random_vgg(tmp_path_factory):
    return write_random_vgg(tmp_path_factory.mktemp("vgg") / "vgg19.safetensors")


def test_perceptual_distance_grows_with_difference(random_vgg):
    loss = PerceptualLoss(random_vgg)
    picture = torch.rand(1, 3, 64, 64)
    assert loss(picture, picture) == 0
    assert loss(picture, 1 - picture) > loss(picture, picture * 0.9) > 0


def test_other_weights_are_refused_by_layer(random_vgg, tmp_path):
    tensors = load_file(random_vgg)
    del tensors["features.5.weight"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(BadInput, match=r"5\.weight is missing"):
        PerceptualLoss(tmp_path / "cut.safetensors")


def test_the_adversary_sees_through_noise_and_judges_it():
    torch.manual_seed(0)
    adversary = Adversary(learning_rate=2e-3)
    real = torch.linspace(0, 1, 128).expand(2, 3, 128, 128)
    lips = torch.tensor([[[0.4, 0.6], [0.6, 0.7]]]).repeat(2, 1, 1)
    losses = [
        float(adversary.improve([Judged.alone(real, torch.rand(2, 3, 128, 128), lips)], step=step))
        for step in range(1, 15)
    ]
    assert losses[-1] < 0.95 * losses[0]
    fake = torch.rand(2, 3, 128, 128).requires_grad_()
    adversary.judge(Judged.alone(real, fake, lips)).backward()
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0
    assert all(p.grad is None or not p.requires_grad for p in adversary.parameters())


def test_every_sixteenth_step_pays_for_steep_scores_and_a_mouthless_picture_has_none():
    real, fake = torch.linspace(0, 1, 64).expand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    lips = torch.tensor([[[0.4, 0.6], [0.6, 0.7]]]).repeat(2, 1, 1)

    def loss(step: int, mouth_share: float) -> tuple[float, Adversary]:
        torch.manual_seed(0)
        adversary = Adversary()
        part = Judged(real, fake, lips, torch.full((2,), 0.5), torch.full((2,), mouth_share))
        return float(adversary.improve([part], step=step)), adversary

    assert loss(32, 0.5)[0] > loss(31, 0.5)[0] == loss(33, 0.5)[0]
    assert all((p.grad == 0).all() for p in loss(32, 0.0)[1].mouth.parameters())
    assert any((p.grad != 0).any() for p in loss(32, 0.5)[1].mouth.parameters())
