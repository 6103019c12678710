"""Points in areas, against slow obvious ways."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import shapely

from geo_ray.atlas.areas import Areas, areas_km2, polygonal
from geo_ray.geo.sphere import EARTH_RADIUS_KM, great_circle_km, pairwise_km

ISLANDS = np.array(
    [
        shapely.box(10, 50, 20, 60),
        shapely.box(-30, -5, -20, 5),
        shapely.MultiPolygon([shapely.box(178, -20, 180, -15), shapely.box(-180, -20, -178, -15)]),
        shapely.box(-180, -90, 180, -75),
        shapely.Point(100, 30).buffer(3, quad_segs=30),
    ],
    dtype=object,
)


def outline(polygon, step=0.02):
    """A polygon's border as points a step apart, in degrees."""
    return shapely.get_coordinates(shapely.segmentize(polygon.boundary, step))[:, ::-1]


def everywhere(number, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([np.degrees(np.arcsin(rng.uniform(-1, 1, number))), rng.uniform(-180, 180, number)], axis=1)


def test_covering_is_the_loop_over_all():
    latlon = everywhere(3000)
    expected = [
        next((n for n, area in enumerate(ISLANDS) if area.intersects(shapely.Point(lon, lat))), -1)
        for lat, lon in latlon
    ]
    assert Areas(ISLANDS).covering(latlon).tolist() == expected
    assert set(expected) == {-1, 0, 1, 2, 3, 4}


def test_nearest_is_that_of_finely_drawn_outlines():
    latlon = everywhere(300, seed=1)
    found = Areas(ISLANDS).locate(latlon)
    distance = np.stack([pairwise_km(latlon, outline(area)).min(axis=1) for area in ISLANDS], axis=1)
    at_sea = Areas(ISLANDS).covering(latlon) == -1
    assert at_sea.sum() > 200
    np.testing.assert_array_equal(found.areas[at_sea], distance[at_sea].argmin(axis=1))
    np.testing.assert_allclose(found.distance_km[at_sea], distance[at_sea].min(axis=1), atol=0.1)
    np.testing.assert_allclose(great_circle_km(latlon, found.latlon), found.distance_km, atol=1e-3)
    assert (found.distance_km[~at_sea] == 0).all()


@pytest.mark.parametrize(
    ("point", "area"),
    [([-17.0, 177.0], 2), ([-17.0, -177.0], 2), ([-17.0, 180.0], 2), ([-90.0, 12.0], 3), ([90.0, 0.0], 0)],
)
def test_the_antimeridian_and_the_poles(point, area):
    assert Areas(ISLANDS).locate(np.array([point], float)).areas.tolist() == [area]


def test_a_common_border_belongs_to_the_first():
    halves = np.array([shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)], dtype=object)
    assert Areas(halves).locate(np.array([[0.5, 1.0], [1.5, 1.0], [0.5, 1.5]])).areas.tolist() == [0, 0, 1]


def test_many_threads_may_ask():
    areas, latlon = Areas(ISLANDS), everywhere(2000)
    alone = areas.covering(latlon).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert all(found.tolist() == alone for found in pool.map(areas.covering, [latlon] * 8))


def test_no_points_and_bad_points():
    found = Areas(ISLANDS).locate(np.zeros((0, 2)))
    assert (len(found.areas), len(found.distance_km), found.latlon.shape) == (0, 0, (0, 2))
    with pytest.raises(ValueError, match="row 0"):
        Areas(ISLANDS).locate(np.array([[91.0, 0.0]]))


def test_areas_on_the_sphere():
    whole = 4 * np.pi * EARTH_RADIUS_KM**2
    cap = 2 * np.pi * EARTH_RADIUS_KM**2 * (1 - np.sin(np.radians(75)))
    shapes = np.array([shapely.box(-180, -90, 180, 90), ISLANDS[3]], dtype=object)
    np.testing.assert_allclose(areas_km2(shapes), [whole, cap], rtol=1e-12)
    long = shapely.Polygon([(0, 0), (60, 50), (60, 0)], holes=[[(40, 10), (50, 10), (50, 20)]])
    both = np.array([long, shapely.segmentize(long, 0.01)], dtype=object)
    np.testing.assert_allclose(*areas_km2(both), rtol=1e-9)
    np.testing.assert_allclose(areas_km2(both[:1]) + areas_km2(np.array([shapely.Polygon(long.interiors[0])])),
                               areas_km2(np.array([shapely.Polygon(long.exterior)])))  # fmt: skip


def test_only_polygons_are_kept():
    mixed = shapely.GeometryCollection([shapely.box(0, 0, 1, 1), shapely.LineString([(1, 0), (2, 0)])])
    line = shapely.LineString([(0, 0), (1, 1)])
    square, nothing = polygonal(np.array([mixed, line], dtype=object))
    assert square.equals(shapely.box(0, 0, 1, 1))
    assert nothing.is_empty
