"""S2 cells divided by count: a disjoint cover that agrees with S2 itself, and sizes."""

import sys

import numpy as np
import pytest
import s2geometry
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import NOT_SPLITTABLE, CellSizes
from geo_ray.cells.s2 import MAX_LEVEL, NOT_FUSED, build_s2
from geo_ray.errors import MissingDataError
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors

SMALL = CellSizes(min_size=3, max_size=6)
FACES = ["1", "3", "5", "7", "9", "b"]
GLOBE_AREA = 360 * 180
bounded = settings(max_examples=40, deadline=None, derandomize=True)
# Multiples of 22.5 degrees: poles, the antimeridian, and edges of faces and of their quarters.
lattice = arrays.arrays(np.int64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.integers(-4, 4)).map(
    lambda steps: steps * [22.5, 45.0]
)
SEAMS = np.array(
    [(lat, lon) for lat in (-90.0, -45.0, 0.0, 45.0, 90.0) for lon in (-180.0, -135.0, -45.0, 0.0, 45.0, 90.0, 180.0)]
)


def scattered(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)])


def photos(n, seed=0):
    """Points as uneven as photos: clusters from a metre to a continent wide, some over the antimeridian."""
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-5, 1, (n, 1)) * rng.normal(size=(n, 2))
    latlon = scattered(20, seed)[rng.integers(20, size=n)] + spread
    return np.stack([latlon[:, 0].clip(-90, 90), (latlon[:, 1] + 180) % 360 - 180], axis=1)


def s2_cells(partition):
    return [s2geometry.S2CellId.FromToken(token) for token in partition.cell_ids]


def assert_cover(partition, latlon):
    """Valid polygons that share their edges and fill the globe; counts and centres of the points they cover."""
    assert shapely.is_valid(partition.polygons).all()
    assert shapely.coverage_is_valid(shapely.get_parts(partition.polygons))
    assert shapely.area(partition.polygons).sum() == pytest.approx(GLOBE_AREA, rel=1e-12)
    np.testing.assert_array_equal(shapely.total_bounds(partition.polygons), [-180, -90, 180, 90])
    cells = cells_of(latlon, partition)
    np.testing.assert_array_equal(np.bincount(cells, minlength=len(partition)), partition.counts)
    assert shapely.covers(partition.polygons[cells], shapely.points(latlon[:, ::-1])).all()


@pytest.fixture(scope="module")
def uneven():
    latlon = photos(5000)
    return latlon, build_s2(latlon, CellSizes())


def test_cover_without_overlap(uneven):
    latlon, partition = uneven
    assert_cover(partition, latlon)
    levels = [cell.level() for cell in s2_cells(partition)]
    assert min(levels) <= 2
    assert max(levels) >= 10


def test_every_point_of_the_earth_is_in_a_cell(uneven):
    _, partition = uneven
    latlon = np.concatenate([scattered(20_000), SEAMS])
    cells = cells_of(latlon, partition)
    assert shapely.covers(partition.polygons[cells], shapely.points(latlon[:, ::-1])).all()


def test_pairs_of_cells_do_not_overlap(uneven):
    _, partition = uneven
    a, b = shapely.STRtree(partition.polygons).query(partition.polygons, predicate="intersects")
    neighbours = a < b
    assert neighbours.sum() > len(partition)
    overlap = shapely.area(shapely.intersection(partition.polygons[a[neighbours]], partition.polygons[b[neighbours]]))
    assert overlap.max() < 1e-12


def test_cells_are_those_of_s2(uneven):
    """A point's polygon is its S2 cell, or one whose edge is at most two metres away."""
    _, partition = uneven
    latlon = scattered(20_000, seed=1)
    found = cells_of(latlon, partition)
    ids = s2_cells(partition)
    number = {cell.id(): index for index, cell in enumerate(ids)}
    differ = 0
    for point, cell in zip(latlon.tolist(), found, strict=True):
        place = s2geometry.S2LatLng.FromDegrees(*point)
        if number[_ancestor(s2geometry.S2CellId(place), number).id()] != cell:
            differ += 1
            away = s2geometry.S2Cell(ids[cell]).GetDistance(place.ToPoint()).ToAngle().radians()
            assert away * EARTH_RADIUS_KM < 0.002
    assert differ <= 5


def _ancestor(leaf, number):
    return next(leaf.parent(level) for level in range(30) if leaf.parent(level).id() in number)


def test_corners_and_areas_are_those_of_s2(uneven):
    _, partition = uneven
    for cell, polygon in zip(s2_cells(partition), partition.polygons, strict=True):
        s2 = s2geometry.S2Cell(cell)
        vertices = unit_vectors(shapely.get_coordinates(polygon)[:, ::-1])
        for corner in range(4):
            xyz = np.array(s2geometry.S2Point_ToRaw(s2.GetVertex(corner)))
            assert np.linalg.norm(vertices - xyz, axis=1).min() < 2e-11
        if cell.level() <= 12:
            assert equal_area(polygon).area == pytest.approx(s2.ExactArea(), rel=1e-3)


def equal_area(polygon):
    """On the cylindrical equal-area projection of the unit sphere."""
    return shapely.transform(
        shapely.segmentize(polygon, 0.1),
        lambda lonlat: np.stack([np.radians(lonlat[:, 0]), np.sin(np.radians(lonlat[:, 1]))], axis=1),
    )


def test_sizes_are_within_the_limit(uneven):
    _, partition = uneven
    assert partition.counts.max() <= 60
    assert partition.counts.sum() == 5000
    few = partition.counts < 30
    assert set(partition.reasons[few]) == {NOT_FUSED}
    assert set(partition.reasons[~few]) == {""}


def test_only_large_cells_were_divided(uneven):
    """The four children of a divided cell hold more points than a cell may."""
    latlon, partition = uneven
    leaves = np.array(
        [s2geometry.S2CellId(s2geometry.S2LatLng.FromDegrees(*p)).id() for p in latlon.tolist()], np.uint64
    )
    divided = {cell.parent(level).id() for cell in s2_cells(partition) for level in range(cell.level())}
    for cell in map(s2geometry.S2CellId, divided):
        first, last = cell.range_min().id(), cell.range_max().id()
        assert ((leaves >= first) & (leaves <= last)).sum() > 60


@given(lattice)
@bounded
def test_points_on_edges_have_their_cells(latlon):
    partition = build_s2(latlon, SMALL)
    assert_cover(partition, latlon)
    cells = cells_of(latlon, partition)
    for row in np.flatnonzero(partition.counts > SMALL.max_size):
        xyz = unit_vectors(latlon[cells == row])
        assert np.ptp(xyz, axis=0).max() < 1e-12
        assert partition.reasons[row] == NOT_SPLITTABLE


@given(lattice, st.randoms(use_true_random=False))
@bounded
def test_row_order_changes_nothing(latlon, random):
    order = list(range(len(latlon)))
    random.shuffle(order)
    a, b = build_s2(latlon, SMALL), build_s2(latlon[order], SMALL)
    assert shapely.to_wkb(a.polygons).tolist() == shapely.to_wkb(b.polygons).tolist()
    for name in ("cell_ids", "counts", "reasons"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_allclose(unit_vectors(a.centers), unit_vectors(b.centers), atol=1e-9)


@pytest.mark.parametrize(
    ("level", "regions"), [(0, "1379"), (1, ["44", "4c", "54", "5c"]), (1, ["a4", "ac", "b4", "bc"])]
)
def test_a_quarter_turn_of_the_earth_changes_nothing(level, regions):
    """Faces along the equator, and quarters of polar faces, alike in points are alike in cells and their vertices."""
    latlon = scattered(600, seed=2)
    turns = [np.stack([latlon[:, 0], (latlon[:, 1] + turn) % 360 - 180], axis=1) for turn in (0, 90, 180, 270)]
    partition = build_s2(np.concatenate(turns), SMALL)
    region = np.array([cell.parent(level).ToToken() for cell in s2_cells(partition)])
    for values in (shapely.get_num_coordinates(partition.polygons), partition.counts):
        first, *others = (np.sort(values[region == token]).tolist() for token in regions)
        assert len(first) > 20
        assert others == [first] * 3


def test_one_point_leaves_the_six_faces():
    latlon = np.array([[48.8, 2.3]])
    partition = build_s2(latlon, CellSizes())
    assert partition.cell_ids.tolist() == FACES
    assert partition.counts.tolist() == [0, 0, 1, 0, 0, 0]
    np.testing.assert_allclose(partition.centers[2], latlon[0])
    assert shapely.covers(partition.polygons[2], shapely.box(-180, 46, 180, 90))  # round the north pole
    assert shapely.get_num_geometries(partition.polygons).tolist() == [1, 1, 1, 2, 1, 1]  # on both sides of 180
    assert_cover(partition, latlon)


def test_one_place_a_thousand_times_is_not_divided():
    latlon = np.tile([[48.8, 2.3]], (1000, 1))
    partition = build_s2(latlon, CellSizes())
    assert partition.cell_ids.tolist() == FACES
    assert partition.reasons.tolist() == [NOT_FUSED, NOT_FUSED, NOT_SPLITTABLE, NOT_FUSED, NOT_FUSED, NOT_FUSED]


@pytest.mark.parametrize("place", [(48.8, 2.3), (0.0, 0.0), (0.0, 45.0), (-90.0, 0.0), (90.0, 180.0), (10.0, -180.0)])
def test_one_place_among_others_has_a_cell(place):
    latlon = np.concatenate([np.tile([place], (1000, 1)), scattered(300)])
    partition = build_s2(latlon, CellSizes())
    assert np.sort(partition.counts)[-1] == 1000
    assert np.sort(partition.counts)[-2] <= 60
    assert partition.reasons[np.argmax(partition.counts)] == NOT_SPLITTABLE
    assert_cover(partition, latlon)


@pytest.mark.parametrize("place", [(48.8, 2.3), (89.999999, 10.0), (0.0, 179.999999), (0.0, 0.0)])
def test_no_cell_is_smaller_than_the_last_level(place):
    """Places a tenth of a millimetre apart stay together, beside others 3 cm away that may be parted from them."""
    latlon = np.array([[place[0] + north, place[1]] for north in (0, 1e-10, 1e-9, 3e-7)] * 10)
    partition = build_s2(latlon, CellSizes(min_size=1, max_size=9))
    assert max(cell.level() for cell in s2_cells(partition)) <= MAX_LEVEL
    assert set(partition.reasons[partition.counts > 9]) == {NOT_SPLITTABLE}
    assert_cover(partition, latlon)


def test_places_a_metre_apart_are_parted():
    latlon = np.stack([10 + np.arange(10) * 1e-5, np.full(10, 20.0)], axis=1)
    partition = build_s2(latlon, CellSizes(min_size=1, max_size=1))
    assert partition.counts.max() == 1
    assert_cover(partition, latlon)


def test_centres_of_empty_cells_are_inside(uneven):
    _, partition = uneven
    empty = partition.counts == 0
    assert empty.sum() > 5
    assert shapely.contains_xy(partition.polygons[empty], *partition.centers[empty, ::-1].T).all()


def test_no_points_and_bad_points_are_refused():
    with pytest.raises(ValueError, match="no training points"):
        build_s2(np.zeros((0, 2)), SMALL)
    with pytest.raises(ValueError, match="swapped"):
        build_s2(np.array([[139.0, 35.0]]), SMALL)
    with pytest.raises(ValueError, match="1 of 2 points"):
        build_s2(np.array([[np.nan, 35.0], [1.0, 2.0]]), SMALL)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s2geometry", None)
    with pytest.raises(MissingDataError, match=r"pip install 'geo-ray\[s2\]'"):
        build_s2(np.zeros((1, 2)), SMALL)
