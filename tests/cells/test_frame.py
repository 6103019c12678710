"""Frames of longitudes."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo_ray.cells.frame import Frame

FIJI = shapely.MultiPolygon([shapely.box(176, -20, 180, -15), shapely.box(-180, -20, -176, -15)])
NOWHERE = np.zeros((0, 2))


def test_the_edge_lies_opposite():
    frame = Frame.about(np.array([FIJI, shapely.box(170, -20, 172, -15)], dtype=object), NOWHERE)
    assert frame.longitude == pytest.approx(177)
    polygon = frame.polygons(np.array([FIJI], dtype=object))[0]
    assert polygon.equals(shapely.box(-1, -20, 7, -15))
    np.testing.assert_allclose(frame.points(np.array([[-16.0, -179.0], [-17.0, 177.0]])), [[-16, 4], [-17, 0]])


@given(longitude=st.floats(-180, 180))
def test_there_and_back(longitude):
    shapes = np.array([FIJI, shapely.box(-10, 40, 10, 50), shapely.box(-180, -90, 180, -65)], dtype=object)
    frame = Frame(longitude)
    again = frame.on_earth(frame.polygons(shapes))
    assert shapely.area(shapely.symmetric_difference(again, shapes)).max() < 1e-9
    assert shapely.total_bounds(again).tolist() == pytest.approx([-180, -90, 180, 50])


def test_all_around_the_pole_the_edge_lies_opposite_the_points():
    ring = np.array([shapely.box(-180, -90, 180, -65)], dtype=object)
    assert Frame.about(ring, np.array([[-70.0, 40.0], [-70.0, 60.0]])).longitude == pytest.approx(50)
