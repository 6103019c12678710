"""Which cell a point is in."""

import numpy as np
import pytest
import shapely

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import CellSizes, from_polygons

LAND = from_polygons(
    np.array([shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10), shapely.box(170, -10, 180, 10)], dtype=object),
    np.array([[5.0, 5.0], [5.0, 15.0], [0.0, 175.0]]),
    np.array([0, 1, 2]),
    CellSizes(),
)


def test_inside_on_the_border_and_at_sea():
    latlon = np.array([[5.0, 5.0], [5.0, 15.0], [5.0, 10.0], [0.0, 180.0], [60.0, 4.0]])
    assert cells_of(latlon, LAND).tolist() == [0, 1, 0, 2, 0]


def test_at_sea_beyond_the_antimeridian_is_near():
    assert cells_of(np.array([[0.0, -179.0], [0.0, -180.0]]), LAND).tolist() == [2, 2]


def test_no_points():
    assert cells_of(np.zeros((0, 2)), LAND).shape == (0,)


def test_row_order_and_batch_size_change_nothing():
    rng = np.random.default_rng(0)
    latlon = np.column_stack([rng.uniform(-90, 90, 200), rng.uniform(-180, 180, 200)])
    whole = cells_of(latlon, LAND)
    order = rng.permutation(200)
    np.testing.assert_array_equal(cells_of(latlon[order], LAND), whole[order])
    np.testing.assert_array_equal(np.concatenate([cells_of(row[None], LAND) for row in latlon]), whole)


def test_what_is_no_place_is_refused():
    with pytest.raises(ValueError, match="row 1"):
        cells_of(np.array([[0.0, 0.0], [np.nan, 0.0]]), LAND)
