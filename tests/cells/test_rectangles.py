"""Balanced rectangles: sizes, a disjoint cover, and places that can't be told apart."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.rectangles import build_rectangles

SMALL = CellSizes(min_size=3, max_size=6)
GLOBE = shapely.box(-180, -90, 180, 90)
bounded = settings(max_examples=40, deadline=None, derandomize=True)
lattice = arrays.arrays(np.float64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.integers(-60, 60))


def scattered(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)])


def assert_cover(partition, latlon):
    """Disjoint polygons over the whole globe, and counts of the points in them."""
    assert shapely.area(partition.polygons).sum() == pytest.approx(GLOBE.area)
    assert shapely.equals(shapely.union_all(partition.polygons), GLOBE)
    cells = cells_of(latlon, partition)
    np.testing.assert_array_equal(np.bincount(cells, minlength=len(partition)), partition.counts)
    assert shapely.covers(partition.polygons[cells], shapely.points(latlon[:, ::-1])).all()


def test_sizes_are_within_the_limits():
    latlon = scattered(2000)
    partition = build_rectangles(latlon, CellSizes())
    assert partition.counts.min() >= 30
    assert partition.counts.max() <= 60
    assert_cover(partition, latlon)


@given(lattice)
@bounded
def test_any_points_have_their_cells(latlon):
    partition = build_rectangles(latlon, SMALL)
    assert_cover(partition, latlon)
    if len(latlon) >= SMALL.min_size:
        assert partition.counts.min() >= SMALL.min_size
    for row in np.flatnonzero(partition.counts > SMALL.max_size):
        inside = latlon[cells_of(latlon, partition) == row]
        assert not _can_be_cut(inside[:, 0])
        assert not _can_be_cut(inside[:, 1])


def _can_be_cut(values):
    return any(3 <= (values < value).sum() <= len(values) - 3 for value in values)


@given(lattice, st.randoms(use_true_random=False))
@bounded
def test_row_order_changes_nothing(latlon, random):
    order = list(range(len(latlon)))
    random.shuffle(order)
    a, b = build_rectangles(latlon, SMALL), build_rectangles(latlon[order], SMALL)
    assert shapely.to_wkb(a.polygons).tolist() == shapely.to_wkb(b.polygons).tolist()
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_allclose(a.centers, b.centers, atol=1e-9)


def test_one_place_a_thousand_times_is_one_cell():
    latlon = np.tile([[48.8, 2.3]], (1000, 1))
    partition = build_rectangles(latlon, CellSizes())
    assert partition.counts.tolist() == [1000]
    np.testing.assert_allclose(partition.centers, [[48.8, 2.3]])


def test_one_place_among_others_keeps_its_cell():
    latlon = np.concatenate([np.tile([[48.8, 2.3]], (1000, 1)), scattered(300)])
    partition = build_rectangles(latlon, CellSizes())
    assert partition.counts.max() >= 1000
    assert np.sort(partition.counts)[:-1].max() <= 60
    assert partition.counts.min() >= 30
    assert_cover(partition, latlon)


@pytest.mark.parametrize("n", [1, 2])
def test_few_points_are_one_cell(n):
    latlon = scattered(n)
    partition = build_rectangles(latlon, CellSizes())
    assert partition.counts.tolist() == [n]
    assert shapely.equals(partition.polygons[0], GLOBE)


@pytest.mark.parametrize("axis", [0, 1])
def test_points_on_one_line(axis):
    latlon = np.zeros((100, 2))
    latlon[:, axis] = np.linspace(-80, 80, 100)
    partition = build_rectangles(latlon, CellSizes(min_size=10, max_size=25))
    assert partition.counts.tolist() == [25, 25, 25, 25]
    assert_cover(partition, latlon)


def test_points_on_the_seams():
    latlon = np.array([(90.0, 180.0), (-90.0, -180.0), (90.0, -180.0), (-90.0, 180.0), (0.0, 180.0), (0.0, -180.0)] * 4)
    assert_cover(build_rectangles(latlon, SMALL), latlon)


def test_places_one_rounding_step_apart_are_not_cut():
    """The middle of such a gap rounds onto one of its ends, and a cut there would never end."""
    latlon = np.array([[10.0, 20.0], [np.nextafter(10.0, 11), 20.0]] * 5)
    partition = build_rectangles(latlon, CellSizes(min_size=1, max_size=2))
    assert partition.counts.tolist() == [10]


def test_places_a_centimetre_apart_are_cut():
    latlon = np.stack([10 + np.arange(10) * 1e-7, np.full(10, 20.0)], axis=1)
    partition = build_rectangles(latlon, CellSizes(min_size=2, max_size=3))
    assert partition.counts.tolist() == [2, 3, 2, 3]
    assert_cover(partition, latlon)


def test_no_points_and_bad_points_are_refused():
    with pytest.raises(ValueError, match="no training points"):
        build_rectangles(np.zeros((0, 2)), SMALL)
    with pytest.raises(ValueError, match="swapped"):
        build_rectangles(np.array([[139.0, 35.0]]), SMALL)
    with pytest.raises(ValueError, match="min_size=9, max_size=3"):
        CellSizes(min_size=9, max_size=3)
