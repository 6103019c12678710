"""PlaNet's geocells, for comparison: S2 cells divided by count. Weyand et al. (2016), arXiv 1602.05314, section 3.

S2 projects the faces of a cube on the sphere and divides each into four again and again. Its edges are great circles;
a Partition's are straight in degrees. So edges are divided until the two agree, and at every corner that lies on them:
neighbours then share their vertices, and neither gaps nor overlaps remain.

Points of the cube are integers here: (x, y, z) from its centre, in halves of the smallest cell's side. So middles of
edges are exact, and the same from either face at an edge of the cube. https://s2geometry.io/devguide/s2cell_hierarchy
"""

from importlib import import_module
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int, Shaped, UInt64

from geo_ray.atlas.areas import Areas
from geo_ray.cells.partition import CellSizes, Partition, from_polygons
from geo_ray.errors import MissingDataError
from geo_ray.geo.sphere import check_latlon, from_unit_vectors, wrap_longitude

NOT_FUSED = "S2 cells are not fused"
# Sides of half a metre: photos are not placed better, and rounding to 1e-9 degrees moves vertices by 1/5,000 of that.
MAX_LEVEL = 24
MAX_BEND_DEGREES = 1e-5  # 1.1 m between a great circle and its straight edge; at 11 m 60 % fewer vertices

LEAF_LEVEL = 30
HALF = 2**MAX_LEVEL  # of the cube's side
# Each face's directions in x, y, z: outwards, along i, along j (kFaceUVWAxes in s2coords_internal.h).
FACE_AXES = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
        [[0, 0, 1], [-1, 0, 0], [0, -1, 0]],
        [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
        [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
    ]
)


def build_s2(latlon: Float64[np.ndarray, "n 2"], sizes: CellSizes) -> Partition:
    """The partition of the Earth into S2 cells for these training points (degrees); cell ids are S2 tokens.

    A cell with more than ``max_size`` points becomes its four children, unless all its points lie in one cell of
    ``MAX_LEVEL``: no division would part them. PlaNet drops cells with few points; here they stay, as every point of
    the Earth belongs to a cell. Raises ``ValueError`` for no points or points out of range,
    ``MissingDataError`` without the package s2geometry.
    """
    if len(latlon) == 0:
        raise ValueError("no training points to build cells from")
    check_latlon(latlon)
    leaves = _leaves(latlon)
    cells = (np.arange(6, dtype=np.uint64) << np.uint64(61)) | np.uint64(1 << 60)
    while (crowded := _crowded(cells, np.searchsorted(_last_leaf(cells), leaves), leaves, sizes)).any():
        cells = _divided(cells, crowded)
    # Points on an edge, or a few metres from one, can fall to the neighbour, which may then hold too many.
    while True:
        polygons = _polygons(cells)
        owners = Areas(polygons).locate(latlon).areas
        crowded = _crowded(cells, owners, leaves, sizes)
        if not crowded.any():
            break
        cells = _divided(cells, crowded)
    tokens = np.array([f"{cell:016x}".rstrip("0") for cell in cells.tolist()], dtype=object)
    return from_polygons(polygons, latlon, owners, sizes, cell_ids=tokens, too_small=NOT_FUSED)


def _library() -> Any:
    try:
        return import_module("s2geometry")
    except ImportError as error:
        raise MissingDataError("s2geometry is not installed: pip install 'geo-ray[s2]'") from error


def _leaves(latlon: Float64[np.ndarray, "n 2"]) -> UInt64[np.ndarray, "n"]:
    """The id of the leaf cell of each point, 3 µs a point."""
    s2 = _library()
    ids = (s2.S2CellId(s2.S2LatLng.FromDegrees(lat, lon)).id() for lat, lon in latlon.tolist())
    return np.fromiter(ids, np.uint64, len(latlon))


def _lowest_bit(cells: UInt64[np.ndarray, "c"]) -> UInt64[np.ndarray, "c"]:
    """Says the level: 1 << 2 * (30 - level). Above it stand the face and the place on its Hilbert curve."""
    return np.asarray(cells & (~cells + np.uint64(1)))


def _last_leaf(cells: UInt64[np.ndarray, "c"]) -> UInt64[np.ndarray, "c"]:
    return cells + (_lowest_bit(cells) - np.uint64(1))


def _children(cells: UInt64[np.ndarray, "c"]) -> UInt64[np.ndarray, "d"]:
    """Four cells for each, in order."""
    bit = _lowest_bit(cells)[:, None]
    ids = cells[:, None] - bit + (bit >> np.uint64(2)) * np.arange(1, 8, 2, dtype=np.uint64)
    return np.asarray(ids.ravel())


def _divided(cells: UInt64[np.ndarray, "c"], which: Bool[np.ndarray, "c"]) -> UInt64[np.ndarray, "d"]:
    return np.sort(np.concatenate([cells[~which], _children(cells[which])]))


def _crowded(
    cells: UInt64[np.ndarray, "c"], owners: Int[np.ndarray, "n"], leaves: UInt64[np.ndarray, "n"], sizes: CellSizes
) -> Bool[np.ndarray, "c"]:
    """Which cells hold too many points and can be divided, where ``owners`` are the points' cells."""
    smallest = leaves >> np.uint64(2 * (LEAF_LEVEL - MAX_LEVEL) + 1)
    first, last = np.full(len(cells), np.iinfo(np.uint64).max, np.uint64), np.zeros(len(cells), np.uint64)
    np.minimum.at(first, owners, smallest)
    np.maximum.at(last, owners, smallest)
    counts = np.bincount(owners, minlength=len(cells))
    divisible = _lowest_bit(cells) > np.uint64(1 << 2 * (LEAF_LEVEL - MAX_LEVEL))
    return np.asarray((counts > sizes.max_size) & (first < last) & divisible)


def _polygons(cells: UInt64[np.ndarray, "c"]) -> Shaped[np.ndarray, "c"]:
    """The cells in degrees, longitude first; faces, which may hold a pole or cross longitude 180, by their children."""
    whole = _lowest_bit(cells) == np.uint64(1 << 2 * LEAF_LEVEL)
    outlines = _outlines(np.concatenate([cells[~whole], _children(cells[whole])]))
    polygons = np.empty(len(cells), dtype=object)
    polygons[~whole] = outlines[: (~whole).sum()]
    polygons[whole] = shapely.union_all(outlines[(~whole).sum() :].reshape(-1, 4), axis=1)
    return polygons


def _outlines(cells: UInt64[np.ndarray, "c"]) -> Shaped[np.ndarray, "c"]:
    """Polygons of cells smaller than a face, which touch poles and longitude 180 with their borders only."""
    corners = _corners(cells)
    sides = np.stack([corners, np.roll(corners, -1, axis=1)], axis=2).reshape(-1, 2, 3)
    side, cube = _vertices(sides)
    cell = side // 4
    latlon = _degrees(cube)
    seam = np.flatnonzero(np.abs(latlon[:, 1]) == 180)
    latlon[seam, 1] = 180.0 * np.sign(corners[:, :, 1].sum(axis=1))[cell[seam]]
    latlon, cell = _with_poles(latlon, cell)
    return np.asarray(shapely.polygons(shapely.linearrings(latlon[:, ::-1], indices=cell)))


def _corners(cells: UInt64[np.ndarray, "c"]) -> Int[np.ndarray, "c 4 3"]:
    """The cells' corners on the cube, counterclockwise as seen from outside."""
    s2 = _library()
    face, i, j = np.array([s2.S2CellId(cell).ToFaceIJOrientation()[:3] for cell in cells.tolist()], np.int64).T
    side = np.sqrt(_lowest_bit(cells)).astype(np.int64)
    leaf = 2 ** (LEAF_LEVEL - MAX_LEVEL)
    low = np.stack([i - i % side, j - j % side], axis=1)[:, None]
    along = (low + side[:, None, None] * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])) // leaf * 2 - HALF
    axes = FACE_AXES[face]
    return np.asarray(HALF * axes[:, None, 0] + along[..., :1] * axes[:, None, 1] + along[..., 1:] * axes[:, None, 2])


def _degrees(cube: Int[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
    """Latitude and longitude of points of the cube, through S2's quadratic projection; to a tenth of a millimetre."""
    ratio = np.abs(cube) / HALF
    return np.round(from_unit_vectors(np.copysign(((1 + ratio) ** 2 - 1) / 3, cube)), 9)


def _vertices(sides: Int[np.ndarray, "s 2 3"]) -> tuple[Int[np.ndarray, "v"], Int[np.ndarray, "v 3"]]:
    """The first end of each side and the points it is divided at, in order, with the side's index.

    Whether an edge is halved depends on its two ends only, so the cells on either side do it alike.
    """
    corners = _key(sides[:, 0])
    side, start, length = np.arange(len(sides)), np.zeros(len(sides)), 1.0
    found: list[tuple[Any, Any, Any]] = []
    while len(sides):
        a, b = sides[:, 0], sides[:, 1]
        middle = (a + b) // 2
        halved = np.isin(_key(middle), corners) | _bent(a, middle, b)
        found.append((side[~halved], start[~halved], a[~halved]))
        length /= 2
        sides = np.concatenate(
            [np.stack([a[halved], middle[halved]], axis=1), np.stack([middle[halved], b[halved]], axis=1)]
        )
        start = np.concatenate([start[halved], start[halved] + length])
        side = np.tile(side[halved], 2)
    side, start, cube = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort([start, side])
    return side[order], cube[order]


def _key(cube: Int[np.ndarray, "n 3"]) -> Shaped[np.ndarray, "n"]:
    """One sortable number a point of the cube; x and y, of 26 bits each, are exact in a float's 53."""
    return np.asarray(cube[:, 0] * 2.0**26 + cube[:, 1] + 1j * cube[:, 2])


def _bent(
    a: Int[np.ndarray, "n 3"], middle: Int[np.ndarray, "n 3"], b: Int[np.ndarray, "n 3"]
) -> Bool[np.ndarray, "n"]:
    """Which edges, drawn straight in degrees from a to b, miss their middle by more than ``MAX_BEND_DEGREES``.

    The middle is enough: in degrees, great circles bend one way on each side of the equator, and no edge crosses it but
    along a meridian.
    """
    center = _degrees(middle)
    (y_1, x_1), (y_2, x_2) = (_beside(center, end).T for end in (a, b))
    length = np.hypot(x_2 - x_1, y_2 - y_1)
    return np.asarray(np.abs(x_1 * y_2 - x_2 * y_1) > MAX_BEND_DEGREES * length)


def _beside(center: Float64[np.ndarray, "n 2"], cube: Int[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
    """North and east of points in degrees of latitude; edges to a pole are meridians, which bend nowhere."""
    north, east = (_degrees(cube) - center).T
    pole = (cube[:, :2] == 0).all(axis=1)
    east = np.where(pole, 0.0, wrap_longitude(east)) * np.cos(np.radians(center[:, 0]))
    return np.stack([north, east], axis=1)


def _with_poles(
    latlon: Float64[np.ndarray, "v 2"], cell: Int[np.ndarray, "v"]
) -> tuple[Float64[np.ndarray, "w 2"], Int[np.ndarray, "w"]]:
    """The rings with two vertices at a pole, which is a line in degrees: at the longitudes of its neighbours."""
    pole = np.flatnonzero(np.abs(latlon[:, 0]) == 90)
    first, end = np.searchsorted(cell, cell[pole]), np.searchsorted(cell, cell[pole], side="right")
    before, after = np.where(pole == first, end, pole) - 1, np.where(pole == end - 1, first, pole + 1)
    latlon[pole, 1] = latlon[before, 1]
    twins = np.stack([latlon[pole, 0], latlon[after, 1]], axis=1)
    return np.insert(latlon, pole + 1, twins, axis=0), np.insert(cell, pole + 1, cell[pole])
