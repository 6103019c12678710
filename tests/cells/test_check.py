"""The check finds what is broken."""

import dataclasses

import numpy as np
import pytest
import shapely

from geo_ray.cells.check import check_partition
from geo_ray.cells.semantic import build_semantic
from tests.cells.worlds import SMALL, areas, cluster

WORLD = areas((shapely.box(0, 0, 2, 1), "AA", "a"), (shapely.box(2, 0, 4, 1), "BB", "b"))
LATLON = np.concatenate([cluster(40, 0.5, 1), cluster(45, 0.5, 3)])
GOOD = build_semantic(WORLD, LATLON, SMALL)


def broken(partition):
    return [
        finding.promise for finding in check_partition(partition, boundaries=WORLD, latlon=LATLON) if not finding.kept
    ]


def with_polygons(*polygons):
    return dataclasses.replace(GOOD, polygons=np.array(polygons, dtype=object))


def test_a_good_partition_keeps_them_all():
    findings = list(check_partition(GOOD, boundaries=WORLD, latlon=LATLON))
    assert [finding.kept for finding in findings] == [True] * 6
    assert [finding.kept for finding in check_partition(GOOD)] == [True] * 3


@pytest.mark.parametrize(
    ("polygons", "promises"),
    [
        ((shapely.box(0, 0, 2, 1), shapely.box(1.999, 0, 4, 1)), ["overlap", "border"]),
        ((shapely.box(0, 0, 2, 1), shapely.box(2, 0.001, 4, 1)), ["cover the land"]),
        ((shapely.box(0, 0, 1.5, 1), shapely.box(1.5, 0, 4, 1)), ["border"]),
        ((shapely.box(0, 0, 2, 1), shapely.Polygon([(2, 0), (4, 1), (4, 0), (2, 1)])), ["valid"]),
    ],
)  # fmt: skip
def test_broken_polygons(polygons, promises):
    if promises == ["valid"]:
        (only,) = check_partition(with_polygons(*polygons), boundaries=WORLD, latlon=LATLON)
        assert not only.kept
        assert "BB-0000" in only.detail
        return
    found = broken(with_polygons(*polygons))
    assert all(any(promise in text for text in found) for promise in promises)
    assert len([text for text in found if "each cell's count" not in text]) == len(promises)


def test_a_small_country_cannot_be_lost():
    """A millionth of the world's land, wholly uncovered or given to a neighbour."""
    tiny = shapely.box(4, 0, 4.001, 0.001)
    world = areas((shapely.box(0, 0, 2, 1), "AA", "a"), (shapely.box(2, 0, 4, 1), "BB", "b"), (tiny, "CC", "c"))
    lost = [finding.promise for finding in check_partition(GOOD, boundaries=world) if not finding.kept]
    assert lost == ["cells cover the land"]
    swallowed = with_polygons(GOOD.polygons[0], shapely.union(GOOD.polygons[1], tiny))
    wrong = [finding.promise for finding in check_partition(swallowed, boundaries=world) if not finding.kept]
    assert wrong == ["cells do not cross a country's border"]


def test_sizes_without_a_reason():
    counts = dataclasses.replace(GOOD, counts=np.array([20, 45]))
    assert [text[:10] for text in broken(counts)] == ["cells hold", "each cell'"]
    explained = dataclasses.replace(counts, reasons=np.array(["no neighbour in the country", ""], dtype=object))
    assert [text[:10] for text in broken(explained)] == ["each cell'"]


def test_rounding_of_a_common_border_is_no_overlap():
    cells = with_polygons(shapely.box(0, 0, 2 + 1e-12, 1), shapely.box(2, 0, 4, 1))
    assert broken(cells) == []
