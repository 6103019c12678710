"""Partition: geocells that cover the Earth without overlap, with the training points' counts."""

import hashlib
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped

from geo_ray.atlas.areas import NamedAreas
from geo_ray.geo.sphere import spherical_mean

# Why a cell's size may lie outside the limits.
NO_NEIGHBOUR = "no neighbour in the country"
NOT_SPLITTABLE = "not splittable"
NO_POINTS = "no training points in the country"
ON_BORDER = "places on its border count to a neighbour"


@dataclass(frozen=True, kw_only=True)
class CellSizes:
    """How many training points a cell may hold. PIGEON: 30 to 60, PIGEOTTO: 1000 to 2000."""

    min_size: int = 30
    max_size: int = 60

    def __post_init__(self) -> None:
        if not 1 <= self.min_size <= self.max_size:
            raise ValueError(f"min_size={self.min_size}, max_size={self.max_size}: need 1 <= min_size <= max_size")


@dataclass(frozen=True, kw_only=True)
class Partition(NamedAreas):
    """Cells by index; every array has one entry a cell.

    ``centers`` are the spherical means of the cells' training points, in degrees. ``sizes`` are the limits the cells
    were built for, and ``reasons`` say of a cell whose count lies outside them why it does.
    """

    cell_ids: Shaped[np.ndarray, "a"]
    centers: Float64[np.ndarray, "a 2"]
    counts: Int[np.ndarray, "a"]
    reasons: Shaped[np.ndarray, "a"]
    sizes: CellSizes

    @property
    def digest(self) -> str:
        """Of the cells' ids and centres: the same for outlines drawn more coarsely."""
        text = "\n".join(self.cell_ids).encode() + np.ascontiguousarray(self.centers, np.float64).tobytes()
        return hashlib.sha256(text).hexdigest()[:16]

    def __post_init__(self) -> None:
        if len(self.cell_ids) == 0:
            raise ValueError("a partition needs at least one cell")
        unique, seen = np.unique(self.cell_ids, return_counts=True)
        if (seen > 1).any():
            raise ValueError(f"cell ids are not unique: {unique[seen > 1][:3].tolist()}")


def from_polygons(
    polygons: Shaped[np.ndarray, "c"],
    latlon: Float64[np.ndarray, "n 2"],
    cells: Int[np.ndarray, "n"],
    sizes: CellSizes,
    *,
    cell_ids: Shaped[np.ndarray, "c"] | None = None,
    countries: Shaped[np.ndarray, "c"] | None = None,
    admin_1: Shaped[np.ndarray, "c"] | None = None,
    too_small: str = NO_NEIGHBOUR,
) -> Partition:
    """The partition of these polygons whose counts and centres come from points and their cell numbers.

    A cell without points has its polygon's representative point as its centre. ``too_small`` is the reason given for
    cells below the limits.
    """
    counts = np.bincount(cells, minlength=len(polygons))
    inside = shapely.point_on_surface(polygons)
    centers = np.stack([shapely.get_y(inside), shapely.get_x(inside)], axis=1)
    by_cell = np.split(np.argsort(cells, kind="stable"), np.cumsum(counts)[:-1])
    for cell in np.flatnonzero(counts):
        inside_cell = latlon[by_cell[cell]]
        centers[cell] = spherical_mean(inside_cell[np.lexsort(inside_cell.T)])  # a sum in the rows' order would differ
    reasons = np.full(len(polygons), "", dtype=object)
    reasons[counts < sizes.min_size] = too_small
    reasons[counts > sizes.max_size] = NOT_SPLITTABLE
    empty = np.full(len(polygons), "", dtype=object)
    ids = np.array([f"c{number:05d}" for number in range(len(polygons))], dtype=object)
    return Partition(
        cell_ids=ids if cell_ids is None else cell_ids,
        polygons=polygons,
        centers=centers,
        counts=counts,
        countries=empty if countries is None else countries,
        admin_1=empty.copy() if admin_1 is None else admin_1,
        reasons=reasons,
        sizes=sizes,
    )
