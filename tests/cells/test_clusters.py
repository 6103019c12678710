"""OPTICS against scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn.cluster import OPTICS

from geo_ray.cells.clusters import optics_clusters
from geo_ray.geo.sphere import unit_vectors


def places(seed, number):
    rng = np.random.default_rng(seed)
    centers = rng.uniform([-60, -180], [60, 180], (1, 2)) + rng.uniform(-3, 3, (12, 2))
    return centers[rng.integers(0, 12, number)] + rng.normal(0, 0.2, (number, 2))


@pytest.mark.parametrize(("min_samples", "xi"), [(8, 0.05), (10, 0.025), (15, 0.015), (3, 0.15)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_clusters_as_scikit_learn(min_samples, xi, seed):
    latlon = places(seed, 500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = OPTICS(min_samples=min_samples, xi=xi).fit(unit_vectors(latlon)).labels_
    np.testing.assert_array_equal(optics_clusters(latlon, min_samples, xi), expected)
    assert expected.max() > 0


def test_few_points_are_noise():
    assert optics_clusters(np.zeros((2, 2)), 3, 0.1).tolist() == [-1, -1]
    assert optics_clusters(np.zeros((0, 2)), 3, 0.1).shape == (0,)


def test_equal_points_are_one_cluster():
    assert len(set(optics_clusters(np.full((50, 2), 12.5), 8, 0.05).tolist())) == 1
