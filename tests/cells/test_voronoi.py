"""Cutting shapes about points."""

import numpy as np
import pytest
import shapely

from geo_ray.cells.voronoi import faces_of, shared_borders, without_strays
from geo_ray.geo.sphere import pairwise_km

SHAPE = shapely.Polygon([(0, 40), (10, 40), (10, 50), (0, 50)], holes=[[(4, 44), (6, 44), (6, 46), (4, 46)]])


def inside(faces, number=3000):
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(0, 10, number), rng.uniform(40, 50, number)
    point, face = shapely.STRtree(faces).query(shapely.points(lon, lat), predicate="within")
    return np.stack([lat, lon], axis=1)[point], face


@pytest.mark.parametrize("number", [2, 3, 5, 40])
def test_faces_hold_what_is_nearest_to_their_group(number):
    rng = np.random.default_rng(number)
    points = np.stack([rng.uniform(40, 50, number), rng.uniform(0, 10, number)], axis=1)
    labels = np.arange(number) % 3
    faces, groups = faces_of(SHAPE, points, labels)
    np.testing.assert_allclose(shapely.area(faces).sum(), SHAPE.area, rtol=1e-9)
    latlon, face = inside(faces)
    distance = pairwise_km(latlon, points)
    nearest = labels[distance.argmin(axis=1)]
    ranked = np.sort(np.stack([np.where(labels == k, distance, np.inf).min(axis=1) for k in set(labels)]), axis=0)
    clear = ranked[1] - ranked[0] > 5  # the plane's distances are not quite the sphere's
    assert clear.sum() > 1500
    np.testing.assert_array_equal(groups[face][clear], nearest[clear])


@pytest.mark.parametrize("points", [[[45.0, 1.0], [45.0, 9.0]], [[45.0, 1.0], [45.0, 5.0], [45.0, 9.0]]])
def test_two_points_and_points_on_a_line(points):
    faces, groups = faces_of(shapely.box(0, 40, 10, 50), np.array(points), np.arange(len(points)))
    assert sorted(groups) == list(range(len(points)))
    np.testing.assert_allclose(shapely.area(faces).sum(), 100)


def test_one_group_is_one_face():
    faces, groups = faces_of(SHAPE, np.array([[41.0, 1.0], [49.0, 9.0]]), np.array([7, 7]))
    assert groups.tolist() == [7]
    assert faces[0].equals(SHAPE)


def test_shared_borders_by_hand():
    squares = np.array([shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.box(2, 1, 3, 2)], dtype=object)
    a, b, length = shared_borders(squares)
    assert (a.tolist(), b.tolist(), length.tolist()) == ([0], [1], [1.0])


def test_strays_go_to_the_longest_border_and_islands_stay():
    row = [shapely.box(x, 0, x + w, 1) for x, w in [(0, 3), (3, 1), (4, 4), (20, 1)]]
    faces = np.array([*row, shapely.box(3, 1, 4, 2)], dtype=object)
    labels = np.array([0, 1, 0, 1, 1])  # the first is the smaller part of its group, the fourth an island
    assert without_strays(faces, labels).tolist() == [1, 1, 0, 1, 1]
    assert labels.tolist() == [0, 1, 0, 1, 1]


def test_a_stray_between_two_takes_the_longer_border():
    faces = np.array(
        [shapely.box(0, 0, 4, 4), shapely.box(4, 0, 5, 1), shapely.box(5, 0, 9, 4), shapely.box(4, 1, 5, 3)],
        dtype=object,
    )
    labels = np.array([0, 2, 1, 0])
    far = np.append(faces, shapely.box(20, 0, 30, 9))  # most of the stray's group
    assert without_strays(far, np.append(labels, 2)).tolist() == [0, 0, 1, 0, 2]
