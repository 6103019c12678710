"""Augmentations stay in range, follow their generator and leave their input alone."""

import pytest
import torch

from geo_ray.train import augment as module
from geo_ray.train.augment import augment, sometimes, uniform

PARTS = ("colour", "desaturate", "flat_water", "snow_and_cloud", "season", "lower_resolution", "sharpen", "noise")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(n=6, size=32):
    return torch.rand((n, 3, size, size), generator=generator(9))


@pytest.mark.parametrize("name", [*PARTS, "augment"])
@pytest.mark.parametrize("n", [1, 6])
def test_colours_stay_colours(name, n):
    x = crops(n)
    kept = x.clone()
    changed = getattr(module, name)(x, rng=generator(), **({} if name == "augment" else {_strength(name): 1.0}))
    assert changed.shape == x.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    torch.testing.assert_close(x, kept, rtol=0, atol=0)
    assert not torch.equal(changed, x)


def _strength(name):
    return "strength" if name in {"colour", "noise"} else "probability"


@pytest.mark.parametrize("name", [part for part in PARTS if _strength(part) == "probability"])
def test_probability_zero_changes_nothing(name):
    torch.testing.assert_close(getattr(module, name)(crops(), 0.0, generator()), crops(), rtol=0, atol=1e-6)


def test_the_seed_decides():
    first, again, other = (augment(crops(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws():
    drawn = uniform((1000,), -2.0, 3.0, generator())
    assert -2 <= drawn.min() < -1.9
    assert 2.9 < drawn.max() < 3
    chosen = sometimes(1000, 0.3, generator())
    assert chosen.shape == (1000, 1, 1, 1)
    assert set(chosen.flatten().tolist()) == {0.0, 1.0}
    assert 0.25 < chosen.mean() < 0.35
