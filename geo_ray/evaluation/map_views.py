"""Views of the Earth for drawing: the whole of it, or a region about its middle, both in equal areas."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int, Shaped
from scipy.spatial import cKDTree

from geo_ray.cells.frame import Frame
from geo_ray.cells.partition import Partition
from geo_ray.errors import InputError
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors

Bounds = tuple[float, float, float, float]  # west, south, east, north in degrees; east < west is across longitude 180
ZOOMS: dict[str, Bounds] = {"europe": (-11.0, 35.0, 41.0, 71.0)}

MAX_EDGE_DEGREES = 1.0  # longer edges are divided: straight in degrees, they are curved in a view
MARGIN = 0.04  # of the width or height, about a zoom
MIN_WIDTH = 0.004  # of a zoom in Earth radii, 25 km
REACH_KM = 500.0  # a country's areas farther from all others than this are not in its zoom
ANTIPODE_DEGREES = 5.0


@dataclass(frozen=True)
class View:
    """A projection of a frame's degrees to a plane in Earth radii, and the plane's rectangle that is shown."""

    frame: Frame
    project: Callable[[Float64[np.ndarray, "n 2"]], Float64[np.ndarray, "n 2"]]
    extent: Bounds  # left, bottom, right, top
    hidden: shapely.Geometry  # what of the frame the projection would tear
    whole: bool  # whether it is the whole Earth, with its outline

    def filled_to(self, width: float, height: float) -> "View":
        """This view with more shown at two of its sides, so that it has the proportions of a panel."""
        left, bottom, right, top = self.extent
        across = max(right - left, (top - bottom) * width / height) / 2
        up = across * height / width
        x, y = (left + right) / 2, (bottom + top) / 2
        return replace(self, extent=(x - across, y - up, x + across, y + up))

    def polygons(self, polygons: Shaped[np.ndarray, "p"]) -> Shaped[np.ndarray, "p"]:
        """The polygons in the plane; those out of sight are empty."""
        turned = self.frame.polygons(polygons)
        torn = shapely.intersects(turned, self.hidden)
        turned[torn] = shapely.difference(turned[torn], self.hidden)
        projected = shapely.transform(shapely.segmentize(turned, MAX_EDGE_DEGREES), self.project)
        seen = shapely.intersects(shapely.box(*self.extent), shapely.envelope(projected))
        projected[~seen] = shapely.Polygon()
        return np.asarray(projected)

    def line(self, latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "m 2"]:
        """A line in the plane."""
        turned = np.stack([latlon[:, 1] - self.frame.longitude, latlon[:, 0]], axis=1)
        return self.project(shapely.get_coordinates(shapely.segmentize(shapely.LineString(turned), MAX_EDGE_DEGREES)))


def world_view() -> View:
    """The whole Earth in the projection of the report's map."""
    (right, _), (_, top) = equal_earth(np.array([[180.0, 0.0], [0.0, 90.0]]))
    return View(Frame(0.0), equal_earth, (-right, -top, right, top), shapely.Polygon(), True)


def zoom_view(partition: Partition, zoom: Bounds | str) -> View:
    """A region in Lambert's azimuthal equal-area projection about its middle.

    ``zoom`` is ``europe``, the ISO 3166 alpha-2 code of a country of the partition, or west, south, east and north in
    degrees (as text: with commas between). A country is shown without its far islands. ``InputError`` where there is no
    such place, or the bounds aren't degrees of less than half the Earth.
    """
    bounds = _as_bounds(zoom)
    if bounds is not None:
        return _view_of_bounds(bounds)
    of_country = partition.countries == str(zoom).upper()
    if of_country.any():
        return _view_of(main_areas(partition.polygons[of_country], partition.counts[of_country]))
    known = sorted(set(partition.countries[partition.countries != ""]))
    some = ", ".join(known[:5]) + (" ..." if len(known) > 5 else "") or "which these cells lack"
    raise InputError(
        f"zoom={zoom!r}: no such place; there are {', '.join(ZOOMS)}, country codes ({some}) and west,south,east,north"
    )


def _as_bounds(zoom: Bounds | str) -> Bounds | None:
    """None where it is the name of something else."""
    if isinstance(zoom, str):
        named = ZOOMS.get(zoom.lower())
        if named or "," not in zoom:
            return named
    parts = zoom.split(",") if isinstance(zoom, str) else zoom
    try:
        west, south, east, north = map(float, parts)
    except ValueError as error:
        raise InputError(f"zoom={zoom!r}: bounds are four numbers: west, south, east, north") from error
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
        raise InputError(
            f"zoom={zoom!r}: need west and east in -180 to 180, south below north in -90 to 90 (west,south,east,north)"
        )
    return west, south, east, north


def _view_of_bounds(bounds: Bounds) -> View:
    west, south, east, north = bounds
    width = east - west + 360 * (east < west)
    if width > 180 and south < 0 < north:
        raise InputError(f"zoom={bounds}: more than half the Earth; the whole of it is drawn anyway")
    return _azimuthal(Frame(west + width / 2), shapely.box(-width / 2, south, width / 2, north))


def _view_of(polygons: Shaped[np.ndarray, "p"]) -> View:
    frame = Frame.about(polygons, np.zeros((1, 2)))
    return _azimuthal(frame, shapely.multipolygons(shapely.get_parts(frame.polygons(polygons))))


def _azimuthal(frame: Frame, region: shapely.Geometry) -> View:
    """The view about the middle of a region, which has longitude 0 in the frame, or about the pole it goes around."""
    west, south, east, north = region.bounds
    latitude = (south + north) / 2 if east - west <= 180 else math.copysign(90.0, south + north)

    def project(lonlat: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        return lambert_azimuthal(lonlat, latitude)

    left, bottom, right, top = shapely.transform(shapely.segmentize(region, MAX_EDGE_DEGREES), project).bounds
    x = max((right - left) * MARGIN, (MIN_WIDTH - right + left) / 2)
    y = max((top - bottom) * MARGIN, (MIN_WIDTH - top + bottom) / 2)
    return View(frame, project, (left - x, bottom - y, right + x, top + y), _about_antipode(latitude), False)


def _about_antipode(latitude: float) -> shapely.Geometry:
    """The antipode of (latitude, 0) and what is near it: it becomes the whole rim of the azimuthal projection."""
    half = min(180.0, ANTIPODE_DEGREES / max(math.cos(math.radians(latitude)), 0.01))
    south, north = max(-90.0, -latitude - ANTIPODE_DEGREES), min(90.0, -latitude + ANTIPODE_DEGREES)
    return shapely.union(shapely.box(-180, south, half - 180, north), shapely.box(180 - half, south, 180, north))


def main_areas(polygons: Shaped[np.ndarray, "p"], counts: Int[np.ndarray, "p"]) -> Shaped[np.ndarray, "m"]:
    """The parts of cells that lie together, by gaps below ``REACH_KM``: of such groups, the one with most points.

    A cell's points count for its parts by their areas.
    """
    parts, cell = shapely.get_parts(polygons, return_index=True)
    area = shapely.area(shapely.transform(parts, equal_earth))
    weight = (counts[cell] + 1) * area / np.bincount(cell, area)[cell]
    edges = shapely.segmentize(shapely.simplify(parts, 0.05), MAX_EDGE_DEGREES)
    coords, part = shapely.get_coordinates(edges, return_index=True)
    left, best = np.full(len(parts), True), np.full(len(parts), False)
    while weight[left].sum() > weight[best].sum():
        group = _reached(int(np.argmax(np.where(left, weight, -1.0))), unit_vectors(coords[:, ::-1]), part)
        left &= ~group
        best = max(best, group, key=lambda found: weight[found].sum())
    return np.asarray(parts[best])


def _reached(start: int, xyz: Float64[np.ndarray, "n 3"], part: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "p"]:
    """Which parts hang together with one of them; ``part`` says of each vertex whose it is."""
    reach = 2 * math.sin(REACH_KM / EARTH_RADIUS_KM / 2)
    inside = np.arange(part[-1] + 1) == start
    fresh = inside
    while fresh.any():
        distance = cKDTree(xyz[fresh[part]]).query(xyz, distance_upper_bound=reach)[0]
        near = np.isin(np.arange(len(inside)), part[np.isfinite(distance)])
        fresh, inside = near & ~inside, inside | near
    return np.asarray(inside)


def equal_earth(lonlat: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    """Equal Earth, in Earth radii: Šavrič, Patterson & Jenny (2018), eqs. 3 and 4."""
    a = (1.340264, -0.081106, 0.000893, 0.003796)
    t = np.arcsin(math.sqrt(3) / 2 * np.sin(np.radians(lonlat[:, 1])))
    t2 = t * t
    t6 = t2 * t2 * t2  # as products: powers of negative numbers are slow
    stretch = 9 * a[3] * t6 * t2 + 7 * a[2] * t6 + 3 * a[1] * t2 + a[0]
    x = 2 * math.sqrt(3) * np.radians(lonlat[:, 0]) * np.cos(t) / (3 * stretch)
    return np.stack([x, t * (a[3] * t6 * t2 + a[2] * t6 + a[1] * t2 + a[0])], axis=1)


def lambert_azimuthal(lonlat: Float64[np.ndarray, "n 2"], latitude: float) -> Float64[np.ndarray, "n 2"]:
    """Lambert's azimuthal equal-area projection about (latitude, 0), in Earth radii.

    Snyder (1987), Map Projections, eqs. 22-4, 22-5 and 24-2. The antipode of that point, which has no place, gets a
    finite one.
    """
    lon, lat = np.radians(lonlat).T
    sine, cosine = math.sin(math.radians(latitude)), math.cos(math.radians(latitude))
    cos_distance = sine * np.sin(lat) + cosine * np.cos(lat) * np.cos(lon)
    scale = np.sqrt(2 / np.maximum(1 + cos_distance, 1e-12))
    y = cosine * np.sin(lat) - sine * np.cos(lat) * np.cos(lon)
    return np.stack([np.cos(lat) * np.sin(lon) * scale, y * scale], axis=1)
