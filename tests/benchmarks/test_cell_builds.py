"""What a measured build says of a larger one."""

import numpy as np
import pytest

from geo_ray.benchmarks.cell_builds import estimate_seconds, resampled, timed_build
from geo_ray.geo.sphere import great_circle_km
from tests.cells.worlds import SMALL
from tests.remote.test_cell_tasks import WORLD, places


def test_an_estimate_by_hand():
    """The driver's part stays, a country's longest task grows with the points, a cell's with their square."""
    row = {"num_points": 1000, "driver_s": 40.0, "countries_s": 20.0, "longest_countries_s": 8.0}
    row |= {"large_cells_s": 100.0, "longest_large_cells_s": 1.0}
    assert estimate_seconds(row, 1000, 1) == pytest.approx(40 + 20 + 100)
    assert estimate_seconds(row, 1000, 10) == pytest.approx(40 + 8 + 10)
    assert estimate_seconds(row, 2000, 1000) == pytest.approx(80 + 16 + 4)


def test_resampled_places_are_near_their_origins():
    latlon = np.array([[0.0, 180.0], [89.99, 0.0]])
    drawn = resampled(latlon, 500, seed=1)
    nearest = np.minimum(*(great_circle_km(drawn, np.broadcast_to(point, drawn.shape)) for point in latlon))
    assert 1 < np.median(nearest) < 4
    np.testing.assert_array_equal(drawn, resampled(latlon, 500, seed=1))


def test_a_timed_build(ray_session):
    partition, row = timed_build(WORLD, places(), SMALL)
    assert row["num_cells"] == len(partition) == sum(row["sizes"].values())
    assert (row["num_points"], row["num_countries"]) == (len(places()), 3)
    assert 0 < row["longest_countries_s"] <= row["countries_s"]
    assert row["num_large_cells"] > 0
