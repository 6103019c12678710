"""Partition: geocells that cover the Earth without overlap, with the training points' counts."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped

from geo_ray.geo.sphere import spherical_mean


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Cells by index; every array has one entry a cell.

    ``polygons`` are shapely geometries in longitude, latitude order (as WKB wants it); ``centers`` are the spherical
    means of the cells' training points, in degrees; ``countries`` and ``admin_1`` are empty strings where they are not
    known.
    """

    cell_ids: Shaped[np.ndarray, "c"]
    polygons: Shaped[np.ndarray, "c"]
    centers: Float64[np.ndarray, "c 2"]
    counts: Int[np.ndarray, "c"]
    countries: Shaped[np.ndarray, "c"]
    admin_1: Shaped[np.ndarray, "c"]

    def __post_init__(self) -> None:
        if len(self.cell_ids) == 0:
            raise ValueError("a partition needs at least one cell")
        unique, seen = np.unique(self.cell_ids, return_counts=True)
        if (seen > 1).any():
            raise ValueError(f"cell ids are not unique: {unique[seen > 1][:3].tolist()}")

    def __len__(self) -> int:
        return len(self.cell_ids)


def from_polygons(
    polygons: Shaped[np.ndarray, "c"], latlon: Float64[np.ndarray, "n 2"], cells: Int[np.ndarray, "n"]
) -> Partition:
    """The partition of these polygons whose counts and centres come from points and their cell numbers.

    A cell without points has its polygon's representative point as its centre.
    """
    counts = np.bincount(cells, minlength=len(polygons))
    inside = shapely.point_on_surface(polygons)
    centers = np.stack([shapely.get_y(inside), shapely.get_x(inside)], axis=1)
    by_cell = np.split(np.argsort(cells, kind="stable"), np.cumsum(counts)[:-1])
    for cell in np.flatnonzero(counts):
        centers[cell] = spherical_mean(latlon[by_cell[cell]])
    empty = np.full(len(polygons), "", dtype=object)
    ids = np.array([f"c{number:05d}" for number in range(len(polygons))], dtype=object)
    return Partition(
        cell_ids=ids, polygons=polygons, centers=centers, counts=counts, countries=empty, admin_1=empty.copy()
    )
