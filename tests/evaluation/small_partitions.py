"""Partitions of a few cells by hand."""

import numpy as np
import shapely

from geo_ray.cells.partition import CellSizes, Partition


def objects(values):
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


def partition_of(polygons, counts, *, countries=None, reasons=None, sizes=None):
    inside = shapely.point_on_surface(objects(polygons))
    return Partition(
        cell_ids=objects([f"c{number}" for number in range(len(polygons))]),
        polygons=objects(polygons),
        centers=np.stack([shapely.get_y(inside), shapely.get_x(inside)], axis=1),
        counts=np.array(counts, np.int64),
        countries=objects(countries or [""] * len(polygons)),
        admin_1=objects([""] * len(polygons)),
        reasons=objects(reasons or [""] * len(polygons)),
        sizes=sizes or CellSizes(),
    )


def boxes_of(counts, **more):
    """One degree wide cells along the equator with these counts."""
    return partition_of([shapely.box(lon, 0, lon + 1, 1) for lon in range(len(counts))], counts, **more)


def across(west, south, east, north):
    """A box across longitude 180, cut there."""
    return shapely.union(shapely.box(west, south, 180, north), shapely.box(-180, south, east, north))
