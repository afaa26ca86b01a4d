"""Losses of stage 1 answer what they are asked."""

import torch

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


def test_differences_are_zero_for_equal_pictures_and_grow():
    a = torch.rand(2, 3, 32, 32)
    for loss in (pyramid_l1, gradient_l1):
        assert loss(a, a) == 0
        assert loss(a, a + 0.2 * torch.rand_like(a)) > loss(a, a + 0.05 * torch.rand_like(a)) > 0


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
    torch.testing.assert_close(missed, torch.tensor(0.16))


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
        loss = hinge_discriminator([real_score], [fake_score]) + 0.1 * r1_penalty([real_score], watched)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert feature_matching(real_features, fake_features) > 0
    assert hinge_generator([fake_score]) > hinge_generator([real_score])
