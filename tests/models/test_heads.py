"""The geocell model: what comes out, and that all of it learns."""

import math

import pytest
import torch

from geo_ray.models.heads import GeocellModel, limit_logit_scale
from geo_ray.models.towers import ResidualTower


def model():
    torch.manual_seed(0)
    return GeocellModel(ResidualTower(8, (4, 8), (1, 1), 6), 6, 11)


def test_features_logits_and_scale():
    net = model().eval()
    features, logits, scale = net(torch.rand((3, 3, 8, 8)))
    assert features.shape == (3, 6)
    assert logits.shape == (3, 11)
    torch.testing.assert_close(logits, net.head(features))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert math.isclose(scale.item(), 1 / 0.07, rel_tol=1e-5)


def test_the_scale_comes_back_to_a_hundred():
    net = model()
    with torch.no_grad():
        net.log_logit_scale.fill_(50.0)
    limit_logit_scale(net)
    assert net(torch.rand((2, 3, 8, 8)))[2].item() == pytest.approx(100)


def test_every_parameter_gets_a_gradient():
    net = model()
    features, logits, scale = net(torch.rand((4, 3, 8, 8)))
    (features.square().sum() * scale + logits.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
