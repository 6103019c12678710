"""Losses against their formulas, row by row in plain floats."""

import math

import numpy as np
import pytest
import torch

from geo_ray.geo import sphere
from geo_ray.models.losses import (
    great_circle_km,
    haversine_targets,
    place_contrastive,
    soft_cross_entropy,
)

CENTERS = torch.tensor([[48.0, 2.0], [48.5, 3.0], [-17.0, 180.0], [90.0, 0.0], [0.0, -179.9]], dtype=torch.float64)
PLACES = torch.tensor([[48.1, 2.9], [-17.2, -179.8], [89.9, 77.0]], dtype=torch.float64)
CELLS = torch.tensor([0, 2, 3])


def test_distances_are_those_of_the_sphere():
    expected = sphere.pairwise_km(PLACES.numpy(), CENTERS.numpy())
    np.testing.assert_allclose(great_circle_km(PLACES, CENTERS), expected, rtol=1e-9, atol=1e-6)
    assert great_circle_km(PLACES[:0], CENTERS).shape == (0, 5)
    opposite = great_circle_km(torch.tensor([[10.0, 20.0]]), torch.tensor([[-10.0, -160.0]]))
    assert opposite.item() == pytest.approx(math.pi * sphere.EARTH_RADIUS_KM, abs=1e-3)


@pytest.mark.parametrize("reference", ["nearest", "true"])
def test_targets_are_the_formula(reference):
    targets = haversine_targets(PLACES, CENTERS, CELLS, 75.0, reference=reference)
    for row, place in enumerate(PLACES.numpy()):
        distance = [float(sphere.great_circle_km(place, center)) for center in CENTERS.numpy()]
        base = min(distance) if reference == "nearest" else distance[CELLS[row]]
        expected = [math.exp(-max(d - base, 0.0) / 75.0) for d in distance]
        np.testing.assert_allclose(targets[row], expected, rtol=1e-5, atol=1e-30)


def test_the_references_differ_where_another_centre_is_nearer():
    nearest, true = (haversine_targets(PLACES, CENTERS, CELLS, 75.0, reference=name) for name in ("nearest", "true"))
    assert nearest.max() == 1
    assert true[0, 0] == true[0, 1] == 1  # the true cell's centre, and one that is nearer
    assert nearest[0, 0] < nearest[0, 1] == 1


def test_no_target_is_above_one_however_far_the_true_cell_is():
    far = haversine_targets(PLACES[:1], CENTERS, torch.tensor([2]), 75.0, reference="true")
    assert far.max() == 1
    assert torch.isfinite(far).all()


@pytest.mark.parametrize("reference", ["nearest", "true"])
@pytest.mark.parametrize("tau_km", [1e-3, 75.0, 1e9])
def test_normalized_targets_sum_to_one(reference, tau_km):
    targets = haversine_targets(PLACES, CENTERS, CELLS, tau_km, reference=reference, normalize=True)
    np.testing.assert_allclose(targets.sum(dim=1), 1, rtol=1e-5)
    if tau_km == 75.0:
        plain = haversine_targets(PLACES, CENTERS, CELLS, tau_km)
        np.testing.assert_allclose(targets, plain / plain.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-30)


def test_soft_cross_entropy_is_the_sum():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(4, 6)), rng.random((4, 6))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.mean([-(y * np.log(p)).sum() for y, p in zip(targets, probability, strict=True)])
    loss = soft_cross_entropy(torch.from_numpy(logits).float(), torch.from_numpy(targets).float())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    hard = torch.nn.functional.cross_entropy(torch.from_numpy(logits).float(), torch.tensor([1, 0, 5, 2]))
    one_hot = torch.nn.functional.one_hot(torch.tensor([1, 0, 5, 2]), 6).float()
    assert soft_cross_entropy(torch.from_numpy(logits).float(), one_hot).item() == pytest.approx(hard.item(), rel=1e-5)


def unit(seed, n=5, d=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn((n, d), generator=generator), dim=1)


def test_contrast_of_distant_places_is_clips_loss():
    anchors, views = unit(0), unit(1)
    apart = torch.full((5, 5), 1e5, dtype=torch.float64).fill_diagonal_(0)
    scale = torch.tensor(14.0)
    loss = place_contrastive(anchors, views, apart, scale, 6.0)
    clip = torch.nn.functional.cross_entropy(scale * anchors @ views.T, torch.arange(5))
    assert loss.item() == pytest.approx(clip.item(), rel=1e-5)


def test_contrast_of_one_place_is_nothing():
    loss = place_contrastive(unit(0, 1), unit(1, 1), torch.zeros((1, 1), dtype=torch.float64), torch.tensor(14.0), 6.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_contrast_shares_the_target_among_near_places():
    """Two places at one point: the best features are equal ones, and CLIP's hard target is not reached."""
    anchors = unit(0, 2)
    same = torch.zeros((2, 2), dtype=torch.float64)
    equal = place_contrastive(anchors, anchors[:1].repeat(2, 1), same, torch.tensor(14.0), 6.0)
    apart = place_contrastive(anchors, anchors, same, torch.tensor(14.0), 6.0)
    assert equal.item() == pytest.approx(math.log(2), rel=1e-5)
    assert apart > equal
