"""Whether a partition keeps what it promises."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped

from geo_ray.atlas.areas import areas_km2
from geo_ray.atlas.boundaries import Boundaries
from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import Partition

TOLERANCE = 1e-6  # of an area: rounding of common borders
SLIVER_KM2 = 1e-5  # and ten square metres, for countries of a square kilometre


@dataclass(frozen=True)
class Finding:
    """A promise, whether it is kept, and the figure that says so."""

    promise: str
    kept: bool
    detail: str


def check_partition(
    partition: Partition,
    *,
    boundaries: Boundaries | None = None,
    latlon: Float64[np.ndarray, "n 2"] | None = None,
) -> Iterator[Finding]:
    """A finding for each promise: of the polygons and sizes; of borders and cover, where boundaries are given; of the
    points (degrees) that the cells were built from, where these are given.
    """  # noqa: D205 - one sentence
    valid = _valid(partition)
    yield valid
    if not valid.kept:  # areas of what is not valid mean nothing
        return
    yield _disjoint(partition)
    yield _sizes(partition)
    if boundaries is not None:
        yield from _against(partition, boundaries)
    if latlon is not None:
        yield _points(partition, latlon)


def _valid(partition: Partition) -> Finding:
    bad = partition.unsound
    west, south, east, north = shapely.total_bounds(partition.polygons)
    inside = west >= -180 and east <= 180 and south >= -90 and north <= 90
    detail = f"{len(bad)} of {len(partition)} polygons are not{_examples(partition, bad)}"
    return Finding("polygons are valid and within the degrees there are", not len(bad) and bool(inside), detail)


def _disjoint(partition: Partition) -> Finding:
    a, b = shapely.STRtree(partition.polygons).query(partition.polygons, predicate="intersects")
    once = a < b
    overlap = _common_km2(partition.polygons[a[once]], partition.polygons[b[once]])
    share = overlap.sum() / areas_km2(partition.polygons).sum()
    return Finding("cells do not overlap", bool(share < TOLERANCE), f"{share:.1e} of their area lies in two cells")


def _sizes(partition: Partition) -> Finding:
    sizes = partition.sizes
    odd = (partition.counts < sizes.min_size) | (partition.counts > sizes.max_size)
    unexplained = np.flatnonzero(odd & (partition.reasons == ""))
    reasons, numbers = np.unique(partition.reasons[odd].astype(str), return_counts=True)
    why = ", ".join(f"{number} {reason or 'for no reason'}" for reason, number in zip(reasons, numbers, strict=True))
    detail = f"{odd.sum()} outside ({why})" if odd.any() else "all inside"
    promise = f"cells hold {sizes.min_size} to {sizes.max_size} points, or a reason is given"
    return Finding(promise, not len(unexplained), detail + _examples(partition, unexplained))


def _against(partition: Partition, boundaries: Boundaries) -> Iterator[Finding]:
    """Every area's parts in cells: of another country, and in none."""
    cell, area = shapely.STRtree(boundaries.polygons).query(partition.polygons, predicate="intersects")
    inside = shapely.contains_properly(partition.polygons[cell], boundaries.polygons[area])
    common_km2, area_km2 = np.zeros(len(cell)), areas_km2(boundaries.polygons)
    common_km2[inside] = area_km2[area[inside]]
    common_km2[~inside] = _common_km2(partition.polygons[cell[~inside]], boundaries.polygons[area[~inside]])
    codes, country = np.unique(boundaries.countries.astype(str), return_inverse=True)
    land_km2 = np.bincount(country, area_km2)
    if (partition.countries != "").any():
        abroad = partition.countries[cell] != boundaries.countries[area]
        foreign = np.bincount(country[area[abroad]], common_km2[abroad], len(codes)).astype(np.float64)
        yield _by_country(
            "cells do not cross a country's border", "lies in another country's cell", codes, foreign, land_km2
        )
    missing = np.bincount(country, (area_km2 - np.bincount(area, common_km2, len(boundaries))).clip(min=0))
    yield _by_country("cells cover the land", "lies in no cell", codes, missing, land_km2)


def _by_country(
    promise: str,
    what: str,
    codes: Shaped[np.ndarray, "k"],
    km2: Float64[np.ndarray, "k"],
    land_km2: Float64[np.ndarray, "k"],
) -> Finding:
    """Each country is judged by its own size, so that a small one can't be lost in the world's."""
    bad = codes[km2 > TOLERANCE * land_km2 + SLIVER_KM2]
    named = f", in {', '.join(bad[:5])}" if len(bad) else ""
    return Finding(promise, not len(bad), f"{km2.sum() / land_km2.sum():.1e} of the land {what}{named}")


def _points(partition: Partition, latlon: Float64[np.ndarray, "n 2"]) -> Finding:
    counts = np.bincount(cells_of(latlon, partition), minlength=len(partition))
    off = np.flatnonzero(counts != partition.counts)
    detail = f"{len(latlon)} points, {partition.counts.sum()} counted, {len(off)} cells off{_examples(partition, off)}"
    return Finding("each cell's count is that of its points", not len(off), detail)


def _common_km2(a: Shaped[np.ndarray, "p"], b: Shaped[np.ndarray, "p"]) -> Float64[np.ndarray, "p"]:
    return areas_km2(shapely.intersection(a, b))


def _examples(partition: Partition, cells: Int[np.ndarray, "k"]) -> str:
    return f" (such as {', '.join(map(str, partition.cell_ids[cells[:3]]))})" if len(cells) else ""
