"""From administrative areas and points to a country's first cells (PIGEON, section 3.1; methods 1.3)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped
from scipy.spatial import cKDTree

from geo_ray.atlas.boundaries import Boundaries
from geo_ray.cells.frame import Frame
from geo_ray.geo.sphere import unit_vectors


@dataclass(frozen=True, kw_only=True)
class Country:
    """The areas of one country, on the Earth, and the points that lie in them or nearest to them.

    ``rows`` are the points' rows in the table of all, ``latlon`` where they count: a point outside all areas stands for
    the nearest place in one. ``areas`` are the points' areas by index.
    """

    code: str
    polygons: Shaped[np.ndarray, "a"]
    admin_1: Shaped[np.ndarray, "a"]
    rows: Int[np.ndarray, "n"]
    latlon: Float64[np.ndarray, "n 2"]
    areas: Int[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell that is being built: its polygon on the Earth, and its points as in ``Country``."""

    country: str
    admin_1: str
    polygon: shapely.Geometry
    rows: Int[np.ndarray, "n"]
    latlon: Float64[np.ndarray, "n 2"]


def countries(boundaries: Boundaries, latlon: Float64[np.ndarray, "n 2"]) -> Iterator[Country]:
    """Every country with its areas and points (degrees), in the order of their codes."""
    found = boundaries.areas.locate(latlon)
    point_country = boundaries.countries[found.areas]
    number = np.full(len(boundaries), 0)
    for code in np.unique(boundaries.countries.astype(str)):
        areas, rows = np.flatnonzero(boundaries.countries == code), np.flatnonzero(point_country == code)
        number[areas] = np.arange(len(areas))
        yield Country(
            code=str(code),
            polygons=boundaries.polygons[areas],
            admin_1=boundaries.admin_1[areas],
            rows=rows,
            latlon=found.latlon[rows],
            areas=number[found.areas[rows]],
        )


def owners(polygons: Shaped[np.ndarray, "a"], counts: Int[np.ndarray, "a"]) -> Int[np.ndarray, "a"]:
    """The area that each area is given to: itself where it has points, else the one with points whose centroid is
    nearest. The first area, where none has points.
    """  # noqa: D205 - one sentence
    occupied = np.flatnonzero(counts)
    if len(occupied) == 0:
        return np.zeros(len(polygons), np.int64)
    xyz = unit_vectors(shapely.get_coordinates(shapely.centroid(polygons))[:, ::-1])
    owner = occupied[cKDTree(xyz[occupied]).query(xyz)[1]]
    owner[occupied] = occupied
    return np.asarray(owner, np.int64)


def first_cells(
    country: Country, frame: Frame
) -> tuple[Shaped[np.ndarray, "k"], Shaped[np.ndarray, "k"], Int[np.ndarray, "n"]]:
    """The shapes, in the frame, and admin 1 of a cell for each area with points, and each point's cell."""
    polygons = frame.polygons(country.polygons)
    owner = owners(polygons, np.bincount(country.areas, minlength=len(polygons)))
    names, number = np.unique(owner, return_inverse=True)
    shapes = dissolved(polygons, number)
    return shapes, country.admin_1[names], number[country.areas]


def dissolved(polygons: Shaped[np.ndarray, "a"], group: Int[np.ndarray, "a"]) -> Shaped[np.ndarray, "k"]:
    """The union of each group's polygons; groups are numbered from 0 without a gap."""
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    return np.array([shapely.union_all(polygons[rows]) for rows in members], dtype=object)
