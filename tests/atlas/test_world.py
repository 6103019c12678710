import json
from importlib.resources import files

import numpy as np
import pytest
import shapely

from geo_ray.atlas.world import world


@pytest.fixture(scope="module")
def land():
    """All land in the plane, by the even-odd rule."""
    whole = shapely.Polygon()
    for ring in world().land:
        whole = whole.symmetric_difference(shapely.Polygon(ring[:, ::-1]))
    return whole


@pytest.mark.parametrize(
    ("latitude", "longitude", "is_land"),
    [
        (47.0, 2.5, True),  # France
        (-24.0, 134.0, True),  # Australia
        (66.5, 179.9, True),  # Chukotka, west of the antimeridian
        (66.5, -179.9, True),  # ... and east of it
        (-89.9, 10.0, True),  # the South Pole is on land
        (89.9, 10.0, False),  # the North Pole isn't
        (42.0, 51.0, False),  # the Caspian Sea is a hole
        (0.0, -150.0, False),  # the Pacific
        (30.0, -40.0, False),  # the Atlantic
    ],
)
def test_land_is_where_it_should_be(land, latitude, longitude, is_land):
    assert land.contains(shapely.Point(longitude, latitude)) == is_land


def test_land_covers_its_share_of_the_sphere(land):
    """29.2 % of the Earth is land; the share of the sphere is the area in the cylindrical equal-area projection."""
    equal_area = shapely.transform(land, lambda xy: np.column_stack([xy[:, 0], np.sin(np.radians(xy[:, 1]))]))
    assert equal_area.area / 720 == pytest.approx(0.292, abs=0.006)


def test_rings_are_closed_and_no_line_jumps_over_the_map():
    for ring in world().land:
        assert (ring[0] == ring[-1]).all()
    for line in (*world().land, *world().borders):
        assert np.abs(line[:, 0]).max() <= 90
        assert np.abs(line[:, 1]).max() <= 180
        inside = (np.abs(line[:-1, 0]) < 90) & (np.abs(line[1:, 0]) < 90)  # along the pole a ring may run far
        assert np.abs(np.diff(line[:, 1])[inside]).max(initial=0) < 180


def test_borders_run_over_land(land):
    near = land.buffer(0.05)
    middles = [shapely.LineString(line[:, ::-1]).interpolate(0.5, normalized=True) for line in world().borders]
    assert all(near.contains(point) for point in middles)


def test_file_is_small_and_says_whose_it_is():
    content = (files("geo_ray.atlas") / "world.json").read_text(encoding="utf-8")
    assert len(content) < 150_000
    assert "Natural Earth" in json.loads(content)["source"]
    assert "ublic domain" in world().licence
