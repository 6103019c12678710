"""Looking points up in areas of the Earth: the one that covers a point, or else the nearest."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped
from scipy.spatial import cKDTree

from geo_ray.geo.sphere import EARTH_RADIUS_KM, check_latlon, from_unit_vectors, unit_vectors

CHUNK = 500_000  # points that are looked up at once
THREADS = 2
PREPARED = Lock()  # of the module: polygons may be in several indexes
NEIGHBOURS = 12  # arcs that are looked at first
SHORTEST = 1e-12  # of an arc with a direction: a hundredth of a millimetre, as along a pole
MAX_EDGE_DEGREES = 0.05  # longer edges are divided: a straight line in degrees is no great circle


@dataclass(frozen=True, kw_only=True)
class Found:
    """For each point: its area by index, km to it (0 where it covers the point), and the area's nearest point."""

    areas: Int[np.ndarray, "n"]
    distance_km: Float64[np.ndarray, "n"]
    latlon: Float64[np.ndarray, "n 2"]


class Areas:
    """Polygons in longitude, latitude order, cut at longitude 180, by index."""

    def __init__(self, polygons: Shaped[np.ndarray, "a"]) -> None:
        self._polygons = polygons
        self._tree = shapely.STRtree(polygons)
        shapely.prepare(polygons)

    def covering(self, latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
        """The first area by index that covers each point (degrees), borders included, or -1."""
        check_latlon(latlon)
        parts = [self._covering(latlon[at : at + CHUNK]) for at in range(0, len(latlon), CHUNK)]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def _covering(self, latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
        points, areas = self._tree.query(shapely.points(latlon[:, 1], latlon[:, 0]))
        inside = np.zeros(len(points), bool)

        def look(share: int) -> None:
            pairs = np.flatnonzero(areas % THREADS == share)
            at = latlon[points[pairs]]
            inside[pairs] = shapely.intersects_xy(self._polygons[areas[pairs]], at[:, 1], at[:, 0])

        # GEOS lets one thread at a time use a prepared polygon: each thread has its own areas, and each call its turn.
        with PREPARED, ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(look, range(THREADS)))
        found = np.full(len(latlon), len(self._polygons), np.int64)
        np.minimum.at(found, points[inside], areas[inside])
        found[found == len(self._polygons)] = -1
        return found

    def locate(self, latlon: Float64[np.ndarray, "n 2"]) -> Found:
        """The area of each point (degrees): the first that covers it, or else the nearest by great circle."""
        areas, distance_km, nearest = self.covering(latlon), np.zeros(len(latlon)), latlon.astype(np.float64)
        stray = np.flatnonzero(areas == -1)
        for rows in np.array_split(stray, -(-len(stray) // CHUNK)) if len(stray) else []:
            areas[rows], distance_km[rows], nearest[rows] = self._edges.nearest(latlon[rows])
        return Found(areas=areas, distance_km=distance_km, latlon=nearest)

    @cached_property
    def _edges(self) -> "_Edges":
        return _Edges(self._polygons)


@dataclass(frozen=True, kw_only=True)
class NamedAreas:
    """Areas by index: polygons (longitude first, as WKB wants it, cut at longitude 180), countries and admin 1.

    A name is an empty string where it is not known.
    """

    polygons: Shaped[np.ndarray, "a"]
    countries: Shaped[np.ndarray, "a"]
    admin_1: Shaped[np.ndarray, "a"]

    def __len__(self) -> int:
        return len(self.polygons)

    @cached_property
    def areas(self) -> Areas:
        """The polygons as an index of points."""
        return Areas(self.polygons)

    @property
    def unsound(self) -> Int[np.ndarray, "k"]:
        """The areas that are empty or not valid."""
        return np.flatnonzero(~shapely.is_valid(self.polygons) | shapely.is_empty(self.polygons))


class _Edges:
    """The areas' outer edges, those of one area alone, as short arcs of great circles."""

    def __init__(self, polygons: Shaped[np.ndarray, "a"]) -> None:
        ends, area = _outer_edges(polygons)
        coords, edge = shapely.get_coordinates(
            shapely.segmentize(shapely.linestrings(ends), MAX_EDGE_DEGREES), return_index=True
        )
        start = np.flatnonzero(edge[1:] == edge[:-1])
        xyz = unit_vectors(coords[:, ::-1])
        self._a, self._b = xyz[start], xyz[start + 1]
        self._area = area[edge[start]]
        middle = self._a + self._b
        middle /= np.linalg.norm(middle, axis=1, keepdims=True)
        self._half = float(np.linalg.norm(self._a - middle, axis=1).max(initial=0.0))
        self._middles = cKDTree(middle)

    def nearest(
        self, latlon: Float64[np.ndarray, "n 2"]
    ) -> tuple[Int[np.ndarray, "n"], Float64[np.ndarray, "n"], Float64[np.ndarray, "n 2"]]:
        """The nearest area (the first of equals), km to it, and its nearest point.

        An arc cannot be nearer than its middle by more than half its length: all arcs within that of the nearest middle
        are compared, where the few nearest middles do not settle it.
        """
        p = unit_vectors(latlon)
        distance, arcs = self._middles.query(p, k=min(NEIGHBOURS, len(self._area)), workers=-1)
        distance, arcs = distance.reshape(len(p), -1), arcs.reshape(len(p), -1)
        reach = distance[:, 0] + self._half
        enough = (distance[:, -1] > reach) | (arcs.shape[1] == len(self._area))
        few = self._best(p[enough], arcs[enough].ravel(), np.full(enough.sum(), arcs.shape[1]))
        balls = self._middles.query_ball_point(p[~enough], reach[~enough], workers=-1)
        members = np.concatenate([np.zeros(0, np.int64), *balls]).astype(np.int64)
        many = self._best(p[~enough], members, np.array([len(ball) for ball in balls], np.int64))
        order = np.argsort(np.concatenate([np.flatnonzero(enough), np.flatnonzero(~enough)]))
        area, distance_km, foot = (np.concatenate(pair)[order] for pair in zip(few, many, strict=True))
        return area, distance_km, foot

    def _best(
        self, p: Float64[np.ndarray, "n 3"], arcs: Int[np.ndarray, "k"], counts: Int[np.ndarray, "n"]
    ) -> tuple[Int[np.ndarray, "n"], Float64[np.ndarray, "n"], Float64[np.ndarray, "n 2"]]:
        """The best of so many arcs for each point in turn."""
        point = np.repeat(np.arange(len(p)), counts)
        foot = _foot(p[point], self._a[arcs], self._b[arcs])
        chord = np.round(np.linalg.norm(foot - p[point], axis=1), 12)  # equal to a hundredth of a millimetre is equal
        order = np.lexsort([self._area[arcs], chord, point])
        best = order[np.cumsum(counts) - counts]
        distance_km = 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord[best] / 2, 0, 1))
        return self._area[arcs[best]], distance_km, from_unit_vectors(foot[best])


def _outer_edges(
    polygons: Shaped[np.ndarray, "a"],
) -> tuple[Float64[np.ndarray, "e 2 2"], Int[np.ndarray, "e"]]:
    """The edges that occur once, and their areas: those between two areas are not the nearest of any point at sea."""
    parts, area = shapely.get_parts(polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    start = np.flatnonzero((ring[1:] == ring[:-1]) & (coords[1:] != coords[:-1]).any(axis=1))
    ends = np.stack([coords[start], coords[start + 1]], axis=1)
    backwards = (ends[:, 0] > ends[:, 1])[:, 0] | ((ends[:, 0, 0] == ends[:, 1, 0]) & (ends[:, 0, 1] > ends[:, 1, 1]))
    flat = np.where(backwards[:, None, None], ends[:, ::-1], ends).reshape(-1, 4)
    order = np.lexsort(flat.T)
    same = (flat[order[1:]] == flat[order[:-1]]).all(axis=1)
    once = np.ones(len(flat), bool)
    once[order[1:][same]] = once[order[:-1][same]] = False
    return ends[once], area[part[ring[start[once]]]]


def _foot(
    p: Float64[np.ndarray, "n 3"], a: Float64[np.ndarray, "n 3"], b: Float64[np.ndarray, "n 3"]
) -> Float64[np.ndarray, "n 3"]:
    """The point of the arc from a to b that is nearest to p."""
    normal = np.cross(a, b)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=length > SHORTEST)
    foot = p - (p * normal).sum(axis=1, keepdims=True) * normal
    foot /= np.linalg.norm(foot, axis=1, keepdims=True).clip(min=1e-300)
    inside = ((np.cross(normal, a) * p).sum(axis=1) > 0) & ((np.cross(b, normal) * p).sum(axis=1) > 0)
    nearer_a = np.linalg.norm(p - a, axis=1) <= np.linalg.norm(p - b, axis=1)
    end = np.where(nearer_a[:, None], a, b)
    return np.where(inside[:, None], foot, end)


def areas_km2(polygons: Shaped[np.ndarray, "p"]) -> Float64[np.ndarray, "p"]:
    """Area of each polygon on the sphere, its edges straight in degrees.

    The integral of sin(latitude) over longitude along each edge, which is exact: by vertices alone, a diagonal edge of
    10 by 20 degrees is off by some per cent, and a border drawn with more vertices on one side has an area.
    """
    parts, polygon = shapely.get_parts(polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    start = np.flatnonzero(ring[1:] == ring[:-1])
    lon, lat = np.radians(coords).T
    half_rise = (lat[start + 1] - lat[start]) / 2
    mean_sine = np.sin((lat[start + 1] + lat[start]) / 2) * np.sinc(half_rise / np.pi)
    signed = np.bincount(ring[start], (lon[start + 1] - lon[start]) * mean_sine, len(rings))
    shell = np.append(True, part[1:] != part[:-1])[: len(rings)]
    areas = np.bincount(polygon[part], np.where(shell, 1, -1) * np.abs(signed), len(polygons))
    return np.asarray(areas * EARTH_RADIUS_KM**2)


def polygonal(geometries: Shaped[np.ndarray, "g"]) -> Shaped[np.ndarray, "g"]:
    """Each geometry without the points and lines that cutting may leave beside its polygons."""
    mixed = ~np.isin(shapely.get_type_id(geometries), [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON])
    result = geometries.copy()
    for row in np.flatnonzero(mixed):
        parts = shapely.get_parts(geometries[row])
        parts = parts[shapely.get_dimensions(parts) == 2]
        result[row] = shapely.union_all(parts) if len(parts) else shapely.Polygon()
    return result
