"""Semantic geocells of small worlds made by hand."""

import dataclasses

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import NO_NEIGHBOUR, NO_POINTS, NOT_SPLITTABLE, ON_BORDER, CellSizes
from geo_ray.cells.semantic import PARAMETERS, build_semantic, with_sizes
from geo_ray.cells.split import Splitting, seeds
from geo_ray.errors import InputError
from tests.cells.worlds import SIZES, SMALL, areas, cluster, groups, keeps_its_promises, turned

SQUARE = shapely.box(0, 40, 4, 44)
FIJI = shapely.MultiPolygon([shapely.box(176, -20, 180, -15), shapely.box(-180, -20, -176, -15)])


def build(boundaries, latlon, semantic=SMALL):
    partition = build_semantic(boundaries, latlon, semantic)
    keeps_its_promises(partition, boundaries, latlon)
    return partition


def ring(number, latitude, longitude, radius=1.5):
    angle = np.linspace(0, 2 * np.pi, number, endpoint=False)
    return np.stack([latitude + radius * np.sin(angle), longitude + radius * np.cos(angle)], axis=1)


def test_donut():
    """One dense cluster inside a loose ring: it is cut out, and the ring stays whole."""
    latlon = np.concatenate([cluster(40, 42, 2, 2), ring(45, 42, 2)])
    partition = build(areas((SQUARE, "AA", "a")), latlon)
    assert partition.counts.tolist() == [45, 40] or partition.counts.tolist() == [40, 45]
    cells = cells_of(latlon, partition)
    assert len(set(cells[:40])) == 1
    assert len(set(cells[40:])) == 1
    hole = partition.polygons[cells[40]]
    assert len(hole.interiors) == 1


def test_two_clusters():
    latlon = np.concatenate([cluster(50, 41, 1), cluster(40, 43, 3)])
    partition = build(areas((SQUARE, "AA", "a")), latlon)
    assert sorted(partition.counts) == [40, 50]
    assert len(set(cells_of(latlon, partition)[:50])) == 1


def test_three_clusters():
    latlon = np.concatenate([cluster(50, 41, 1), cluster(40, 43, 3), cluster(45, 43, 0.7, seed=1)])
    partition = build(areas((SQUARE, "AA", "a")), latlon)
    assert sorted(partition.counts) == [40, 45, 50]


def test_two_clusters_in_a_crowd_of_noise():
    rng = np.random.default_rng(0)
    noise = np.stack([rng.uniform(40, 44, 20), rng.uniform(0, 4, 20)], axis=1)
    latlon = np.concatenate([cluster(50, 41, 1), cluster(40, 43, 3), noise])
    partition = build(areas((SQUARE, "AA", "a")), latlon)
    cells = cells_of(latlon, partition)
    assert len(partition) == 2
    assert len(set(cells[:50])) == len(set(cells[50:90])) == 1
    assert cells[0] != cells[50]


@pytest.mark.parametrize(("shape", "latitude"), [(FIJI, -17.5), (None, 66.0)])
def test_a_dumbbell_across_the_antimeridian(shape, latitude):
    """Two clusters 3 degrees apart on either side of longitude 180, in one area: Fiji, and Chukotka."""
    if shape is None:
        shape = shapely.MultiPolygon([shapely.box(170, 62, 180, 70), shapely.box(-180, 62, -170, 70)])
    latlon = np.concatenate([cluster(50, latitude, 178.5), cluster(40, latitude, -178.5)])
    partition = build(areas((shape, "FJ", "a")), latlon)
    assert sorted(partition.counts) == [40, 50]
    assert (np.abs(partition.centers[:, 1]) > 178).all()


def test_a_cluster_on_the_antimeridian_is_one():
    latlon = np.concatenate([cluster(50, -17.5, 180), cluster(40, -17.5, 177)])
    partition = build(areas((FIJI, "FJ", "a")), latlon)
    assert sorted(partition.counts) == [40, 50]
    assert len(set(cells_of(latlon, partition)[:50])) == 1
    assert np.abs(partition.centers[:, 1]).max() > 179.9


def test_antarctica():
    """A country about a pole, whose cells meet there; one cluster lies on the pole itself."""
    continent = shapely.box(-180, -90, 180, -65)
    latlon = np.concatenate([cluster(40, -70, 0), cluster(40, -70, 120), cluster(40, -70, -120), cluster(40, -90, 0)])
    partition = build(areas((continent, "AQ", "a")), latlon)
    assert sorted(partition.counts) == [40, 40, 40, 40]
    everywhere = np.stack([np.full(360, -80.0), np.arange(-180.0, 180)], axis=1)
    cells = cells_of(everywhere, partition)
    assert shapely.intersects_xy(partition.polygons[cells], everywhere[:, 1], everywhere[:, 0]).all()
    np.testing.assert_allclose(shapely.area(partition.polygons).sum(), 360 * 25, rtol=1e-9)


def test_an_island_below_the_minimum():
    """It stays as it is, and the partition says why; a country without points is one empty cell."""
    island, far = shapely.box(20, 40, 20.5, 40.5), shapely.box(60, 0, 61, 1)
    latlon = np.concatenate([cluster(40, 42, 2), cluster(5, 40.2, 20.2, 1)])
    partition = build(areas((SQUARE, "AA", "a"), (island, "AA", "b"), (far, "BB", "c")), latlon)
    assert dict(zip(partition.counts.tolist(), partition.reasons, strict=True)) == {
        40: "",
        5: NO_NEIGHBOUR,
        0: NO_POINTS,
    }


def test_an_island_near_by_joins_the_coast():
    """Half its own size away: the doubled shape reaches."""
    island = shapely.box(4.2, 41, 5.2, 42)
    latlon = np.concatenate([cluster(40, 42, 2), cluster(5, 41.5, 4.7, 1)])
    partition = build(areas((SQUARE, "AA", "a"), (island, "AA", "b")), latlon)
    assert partition.counts.tolist() == [45]


def test_small_areas_join_their_own_admin_1_first():
    """The middle area touches a large one of another admin 1 and a small one of its own: it takes its own."""
    units = [(shapely.box(i, 0, i + 1, 1), "AA", name) for i, name in enumerate("aab")]
    latlon = np.concatenate([cluster(12, 0.5, 0.5), cluster(20, 0.5, 1.5, seed=1), cluster(50, 0.5, 2.5, seed=2)])
    partition = build(areas(*units), latlon)
    assert sorted(partition.counts) == [32, 50]
    assert sorted(partition.admin_1) == ["a", "b"]


def test_cells_never_cross_a_border():
    units = [(shapely.box(i, 0, i + 1, 1), country, "a") for i, country in enumerate(["AA", "BB"])]
    latlon = np.concatenate([cluster(5, 0.5, 0.5), cluster(40, 0.5, 1.5)])
    partition = build(areas(*units), latlon)
    assert dict(zip(partition.countries, partition.counts.tolist(), strict=True)) == {"AA": 5, "BB": 40}


def test_empty_areas_go_to_the_nearest_of_their_country():
    units = [(shapely.box(i, 0, i + 1, 1), country, "a") for i, country in enumerate(["AA", "AA", "BB"])]
    partition = build(areas(*units), np.concatenate([cluster(40, 0.5, 0.5), cluster(40, 0.5, 2.5)]))
    assert partition.polygons[0].area == pytest.approx(2.0)
    assert partition.countries.tolist() == ["AA", "BB"]


def test_a_thousand_at_one_place():
    """They can't be parted, and lie in one cell with a reason; the others are cut off."""
    latlon = np.concatenate([np.full((1000, 2), [42.0, 2.0]), cluster(50, 43.5, 3.5)])
    partition = build(areas((SQUARE, "AA", "a")), latlon)
    assert sorted(partition.counts) == [50, 1000]
    assert partition.reasons[partition.counts == 1000].tolist() == [NOT_SPLITTABLE]


@pytest.mark.parametrize("latlon", [[[41.0, 1.0], [43.0, 3.0]], [[41.0, 1.0]], [[42.0, 0.1], [42.0, 2.0], [42.0, 3.9]]])
def test_two_places_and_places_on_a_line(latlon):
    """Forty images at each place: a cell each."""
    latlon = np.repeat(np.array(latlon), 40, axis=0)
    semantic = dataclasses.replace(SMALL, sizes=CellSizes(min_size=30, max_size=39))
    partition = build(areas((SQUARE, "AA", "a")), latlon, semantic)
    assert partition.counts.tolist() == [40] * (len(latlon) // 40)


def test_places_at_sea_belong_to_the_nearest_coast():
    """The cut between two cells goes on over the sea."""
    latlon = np.concatenate([cluster(40, 41, 4.5, 2), cluster(40, 43, 4.5, 2)])
    partition = build(areas((SQUARE, "AA", "a")), latlon)
    assert partition.counts.tolist() == [40, 40]


def test_the_codes_rule_cuts_out_less():
    """Ninety left over are too many for the reference code; the paper's rule cuts the cluster out."""
    latlon = np.concatenate([cluster(40, 42, 2, 0.5), ring(90, 42, 2)])
    found = np.repeat([0, -1], [40, 90])
    points, groups_of_points = seeds(latlon, found, SIZES, "paper")
    assert (len(points), groups_of_points.sum()) == (130, 40)
    assert len(seeds(latlon, found, SIZES, "code")[0]) == 0
    assert len(seeds(latlon[:100], found[:100], SIZES, "code")[0]) == 100


def crowd(seed, number=400):
    """Places of uneven density over Fiji and its neighbour."""
    rng = np.random.default_rng(seed)
    centers = np.stack([rng.uniform(-19.5, -15.5, 8), rng.uniform(172.5, 183.5, 8)], axis=1)
    latlon = centers[rng.integers(0, 8, number)] + rng.normal(0, 0.2, (number, 2))
    return np.stack([latlon[:, 0], (latlon[:, 1] + 180) % 360 - 180], axis=1).round(4)


WORLD = areas(
    (FIJI, "FJ", "a"), (shapely.box(172, -20, 174, -15), "FJ", "a"), (shapely.box(174, -20, 176, -15), "FJ", "b"),
    (shapely.box(-176, -20, -170, -15), "XX", "a"),
)  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), parts=st.integers(-360 * 1024, 360 * 1024))
def test_turning_the_earth_turns_the_cells(seed, parts):
    """By 1024ths of a degree, which sums hold exactly: the areas that are given must still meet at the antimeridian."""
    latlon = crowd(seed)
    world, there = turned(WORLD, latlon, parts / 1024)
    here = build(WORLD, latlon)
    turn = build(world, there)
    np.testing.assert_array_equal(groups(here, latlon), groups(turn, there))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_row_order_changes_nothing(seed):
    latlon = crowd(seed)
    order = np.random.default_rng(seed).permutation(len(latlon))
    here, shuffled = build(WORLD, latlon), build(WORLD, latlon[order])
    assert here.cell_ids.tolist() == shuffled.cell_ids.tolist()
    assert shapely.to_wkb(here.polygons).tolist() == shapely.to_wkb(shuffled.polygons).tolist()
    np.testing.assert_array_equal(here.counts, shuffled.counts)
    np.testing.assert_array_equal(here.centers, shuffled.centers)


@pytest.mark.parametrize("seed", range(5))
def test_row_order_changes_nothing_about_a_pole(seed):
    continent = areas((shapely.box(-180, -90, 180, -65), "AQ", "a"))
    latlon = np.concatenate([cluster(40, -70, 0), cluster(40, -70, 120), cluster(40, -70, -120), cluster(40, -90, 0)])
    order = np.random.default_rng(seed).permutation(len(latlon))
    here, shuffled = build(continent, latlon), build(continent, latlon[order])
    assert shapely.to_wkb(here.polygons).tolist() == shapely.to_wkb(shuffled.polygons).tolist()


def test_places_on_a_border_are_said_to_count_to_a_neighbour():
    """The build counts them to the first area, the partition to the first cell; the reason tells which."""
    units = [(shapely.box(x, 0, x + 1, 1), "AA", "a") for x in (2, 0, 1)]
    latlon = np.concatenate([cluster(45, 0.5, 0.4), cluster(10, 0.5, 1.3), cluster(22, 0.5, 2.6)])
    border = np.stack([np.linspace(0.1, 0.9, 10), np.full(10, 2.0)], axis=1)
    for seed in range(4):
        built = build(areas(*units), np.concatenate([latlon, border]), dataclasses.replace(SMALL, seed=seed))
        odd = (built.counts < 30) | (built.counts > 60)
        assert set(built.reasons[odd]) <= {ON_BORDER}


def test_the_seed_is_of_the_order_in_which_areas_fuse():
    units = [(shapely.box(i, j, i + 1, j + 1), "AA", "a") for i in range(6) for j in range(6)]
    latlon = np.concatenate([cluster(9, y + 0.5, x + 0.5, seed=10 * x + y) for x in range(6) for y in range(6)])
    one, again = (build(areas(*units), latlon) for _ in range(2))
    other = build(areas(*units), latlon, dataclasses.replace(SMALL, seed=1))
    np.testing.assert_array_equal(groups(one, latlon), groups(again, latlon))
    assert (groups(one, latlon) != groups(other, latlon)).any()


def test_bad_points_are_named():
    world = areas((SQUARE, "AA", "a"))
    with pytest.raises(ValueError, match="no training points"):
        build_semantic(world, np.zeros((0, 2)), SMALL)
    with pytest.raises(ValueError, match=r"1 of 2 points .*row 1: \[nan"):
        build_semantic(world, np.array([[0.0, 0.0], [np.nan, 0.0]]), SMALL)
    with pytest.raises(ValueError, match="swapped"):
        build_semantic(world, np.array([[120.0, 40.0], [110.0, 41.0]]), SMALL)


def test_the_papers_parameters():
    assert PARAMETERS["pigeon"].sizes == CellSizes(min_size=30, max_size=60)
    assert PARAMETERS["pigeotto"].splitting.schedule == ((300, 0.05), (400, 0.005), (1000, 0.0001))
    assert with_sizes("pigeon", 10, None, 1).sizes == CellSizes(min_size=10, max_size=60)
    with pytest.raises(InputError, match="cells of 100 to 60 points"):
        with_sizes("pigeon", 100, None, 1)
    with pytest.raises(ValueError, match="schedule"):
        Splitting(schedule=((1, 0.05),))
