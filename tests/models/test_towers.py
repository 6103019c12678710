"""The small tower, with and without its batch norms."""

import copy

import pytest
import torch

from geo_ray.models.towers import TOWERS, ResidualTower, fold_batch_norm


def lived_in(tower):
    """The tower with batch norm statistics as after training."""
    generator = torch.Generator().manual_seed(0)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight.data, 0.5)):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
            module.bias.data.normal_(generator=generator)
    return tower


def pixels(n, size):
    return torch.randn((n, 3, size, size), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("widths_depths", [((8, 16), (1, 2)), ((8, 16, 16), (0, 1, 1))])
def test_folding_keeps_the_features(widths_depths):
    torch.manual_seed(0)
    tower = lived_in(ResidualTower(16, *widths_depths, 5)).eval()
    x = pixels(3, 16)
    with torch.inference_mode():
        expected = tower(x)
        folded = fold_batch_norm(copy.deepcopy(tower).train())
        torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert not any(module.training for module in folded.modules())


def test_folding_leaves_norms_without_a_convolution():
    module = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(3))
    assert isinstance(fold_batch_norm(module)[1], torch.nn.BatchNorm2d)


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_every_tower_gives_its_features(name):
    tower = TOWERS[name](64, 128).eval()
    with torch.inference_mode():
        assert tower(pixels(2, 64)).shape == (2, 128)
        assert tower(pixels(0, 64)).shape == (0, 128)


def test_a_size_that_does_not_halve_is_refused():
    with pytest.raises(ValueError, match="image_size=60 must be a multiple of 16"):
        TOWERS["residual-tiny"](60, 128)
