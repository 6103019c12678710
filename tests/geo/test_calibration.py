"""From a spread to a radius."""

import numpy as np
import pytest

from geo_ray.geo.calibration import RadiusCalibration

STEPS = RadiusCalibration(edges=(10.0, 100.0), radius_km_50=(1.0, 2.0, 3.0), radius_km_90=(4.0, 5.0, 6.0))


def test_bins_hold_their_lower_edge():
    half, most = STEPS.radii_km(np.array([0.0, 9.99, 10.0, 99.0, 100.0, 1e9]))
    assert half.tolist() == [1, 1, 2, 2, 3, 3]
    assert most.tolist() == [4, 4, 5, 5, 6, 6]


def test_an_unknown_spread_gets_the_widest_radius():
    half, most = STEPS.radii_km(np.array([np.nan, np.inf]))
    assert half.tolist() == [3, 3]
    assert most.tolist() == [6, 6]


def test_no_answers_and_no_edges():
    assert STEPS.radii_km(np.zeros(0))[0].shape == (0,)
    constant = RadiusCalibration(edges=(), radius_km_50=(7.0,), radius_km_90=(8.0,))
    assert constant.radii_km(np.array([3.0]))[1].tolist() == [8]


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 edges need 3 radii, not 3 and 2"):
        RadiusCalibration(edges=(1.0, 2.0), radius_km_50=(1.0, 2.0, 3.0), radius_km_90=(1.0, 2.0))
    with pytest.raises(ValueError, match="ascend"):
        RadiusCalibration(edges=(2.0, 1.0), radius_km_50=(1.0, 2.0, 3.0), radius_km_90=(1.0, 2.0, 3.0))
