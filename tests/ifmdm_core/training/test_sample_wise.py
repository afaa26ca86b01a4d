"""Normalisation and dropout that processes agree on."""

import numpy as np
import torch
from torch import nn

from ifmdm_core.training.sample_wise import SharedBatchNorm, give_masks, sample_dropout
from ifmdm_core.training.world import World


def test_shared_normalisation_of_one_process_is_the_ordinary_one():
    torch.manual_seed(0)
    ordinary = nn.BatchNorm2d(6)
    nn.init.normal_(ordinary.weight)
    nn.init.normal_(ordinary.bias)
    shared = SharedBatchNorm(ordinary, World())
    x = (3 + torch.randn(4, 6, 5, 7)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    for _ in range(3):  # the running mean moves from 0 to where x is
        a, b = ordinary(x), shared(y)
    torch.testing.assert_close(b, a)
    torch.testing.assert_close(shared.running_var, ordinary.running_var)
    torch.testing.assert_close(shared.running_mean, ordinary.running_mean)
    wanted = torch.randn_like(a)
    (a * wanted).sum().backward()
    (b * wanted).sum().backward()
    torch.testing.assert_close(y.grad, x.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shared.weight.grad, ordinary.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(shared.eval()(x), ordinary.eval()(x))


def test_dropout_uses_the_masks_it_is_given_and_none_when_not_training():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(400, 1))
    (layers,) = [sample_dropout(nn.ModuleDict({"a": net}))]
    assert list(layers) == ["a.1"]
    drawn = layers["a.1"].draw(np.random.default_rng(0), views=2)
    assert drawn.shape == (2, 400)
    assert 0.65 < drawn.mean() < 0.85
    kept = torch.from_numpy(np.stack([drawn, ~drawn]))  # [2 samples, 2 views, 400]
    give_masks(layers, {"a.1": kept})
    out = net[1](torch.ones(4, 400))
    # View by view: first pictures of both samples, then their second ones.
    torch.testing.assert_close(out, torch.stack([kept[0, 0], kept[1, 0], kept[0, 1], kept[1, 1]]) / 0.75)
    assert torch.equal(net.eval()[1](torch.ones(4, 400)), torch.ones(4, 400))
