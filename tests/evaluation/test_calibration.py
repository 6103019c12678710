"""Radii that cover what they promise, and the search over parameters."""

from dataclasses import dataclass

import numpy as np
import pytest

from geo_ray.evaluation.calibration import conformal_quantile, coordinate_search, fit_radius


@dataclass(frozen=True, kw_only=True)
class Bowl:
    x: float = 0.0
    y: float = 0.0


def test_quantile_by_hand():
    errors = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    assert conformal_quantile(errors, 0.5) == 5
    assert conformal_quantile(errors, 0.9) == 9
    assert conformal_quantile(errors, 0.99) == 9
    assert conformal_quantile(np.array([3.0]), 0.5) == 3


def test_quantile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no errors"):
        conformal_quantile(np.zeros(0), 0.5)


def test_radii_cover_new_answers():
    rng = np.random.default_rng(0)
    spread = rng.exponential(50, 8000)
    error = spread * rng.exponential(1, 8000)
    calibration = fit_radius(spread[:4000], error[:4000])
    half, most = calibration.radii_km(spread[4000:])
    assert (error[4000:] <= half).mean() == pytest.approx(0.5, abs=0.04)
    assert (error[4000:] <= most).mean() == pytest.approx(0.9, abs=0.03)
    assert (np.diff(calibration.radius_km_50) >= 0).all()
    assert (np.diff(calibration.radius_km_90) >= 0).all()
    assert (half <= most).all()


@pytest.mark.parametrize("seed", range(20))
def test_equal_spreads_leave_no_empty_bin(seed):
    rng = np.random.default_rng(seed)
    spread, error = rng.integers(0, 6, 40).astype(float), rng.random(40)
    calibration = fit_radius(spread, error, num_bins=10)
    bins = np.searchsorted(calibration.edges, spread, side="right")
    assert set(bins) == set(range(len(calibration.radius_km_50)))


def test_one_spread_alone_is_one_bin():
    calibration = fit_radius(np.full(30, 7.0), np.arange(30.0), num_bins=5)
    assert calibration.edges == ()
    assert calibration.radius_km_50 == (15.0,)


def test_too_few_answers_are_refused():
    with pytest.raises(ValueError, match="3 validation answers are too few for 20 bins"):
        fit_radius(np.zeros(3), np.zeros(3))


def test_search_finds_the_best_of_each_field():
    choices = {"x": [1.0, 2.0, 3.0], "y": [-1.0, -2.0]}
    best = coordinate_search(Bowl(), choices, lambda p: (p.x - 2 + 0.5 * p.y) ** 2 + (p.y + 1) ** 2)
    assert best.y == -1
    assert best.x in {2.0, 3.0}
    assert coordinate_search(Bowl(x=9.0), {"x": [10.0]}, lambda p: p.x) == Bowl(x=9.0)


def test_search_ignores_what_is_not_a_number():
    assert coordinate_search(Bowl(), {"x": [1.0]}, lambda p: float("nan") if p.x else 5.0) == Bowl()
