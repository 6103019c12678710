"""Cutting a shape along the borders between groups of points: Voronoi regions in a local projection."""

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Voronoi, cKDTree
from shapely.affinity import translate

from geo_ray.cells.frame import DECIMALS, WINDOW
from geo_ray.geo.sphere import destination, offsets_km, spherical_mean

STEP_KM = 10.0  # a border is followed at this pace: its sides in degrees then stray from it by metres
FAR = 20.0  # points this many radii away close every region: two points, or points on a line, have regions as well


def faces_of(
    shape: shapely.Geometry, latlon: Float64[np.ndarray, "g 2"], labels: Int[np.ndarray, "g"]
) -> tuple[Shaped[np.ndarray, "f"], Int[np.ndarray, "f"]]:
    """The faces that borders between the points' groups cut a shape into, and the group of each face.

    ``shape`` is in degrees, longitude first, and ``latlon`` (distinct points) are in the same frame. A face belongs to
    the group of the nearest point, so a group may have several faces, or none.
    """
    center = spherical_mean(latlon)
    plane = offsets_km(center, latlon)
    outline = shapely.get_coordinates(shape)[:, ::-1]
    reach = float(max(np.linalg.norm(offsets_km(center, outline), axis=1).max(), np.linalg.norm(plane, axis=1).max()))
    lines = [_in_degrees(center, line) for line in _borders(plane, labels, reach)]
    network = shapely.union_all([shape.boundary, *lines])
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(network)))
    inside = shapely.point_on_surface(faces)
    shapely.prepare(shape)
    kept = shapely.intersects(shape, inside)
    faces, inside = faces[kept], shapely.get_coordinates(inside[kept])[:, ::-1]
    return faces, labels[cKDTree(plane).query(offsets_km(center, inside))[1]]


def _borders(
    plane: Float64[np.ndarray, "g 2"], labels: Int[np.ndarray, "g"], reach: float
) -> list[Float64[np.ndarray, "2 2"]]:
    """Sides between regions of points of different groups, within ``reach`` of the origin."""
    angle = np.arange(8) * np.pi / 4 + 0.1  # not along an axis, on which data like to lie
    far = FAR * reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    diagram = Voronoi(np.concatenate([plane, far]))
    groups = np.append(labels, np.full(len(far), -1))[diagram.ridge_points]
    ends = np.array(diagram.ridge_vertices)
    real = (groups >= 0).all(axis=1) & (groups[:, 0] != groups[:, 1]) & (ends >= 0).all(axis=1)
    sides = shapely.linestrings(diagram.vertices[ends[real]])
    disc = shapely.box(-reach, -reach, reach, reach)
    clipped = shapely.get_parts(shapely.intersection(sides, disc))
    return [shapely.get_coordinates(side) for side in clipped if side.length > 0]


def _in_degrees(center: Float64[np.ndarray, "2"], line: Float64[np.ndarray, "2 2"]) -> shapely.Geometry:
    """A side of the plane as a line of degrees (longitude first), cut where it passes the edge of the frame."""
    steps = np.linspace(0, 1, 2 + int(np.linalg.norm(line[1] - line[0]) / STEP_KM))
    east, north = line[0][:, None] * (1 - steps) + line[1][:, None] * steps  # ends in the very numbers of its ends
    latlon = destination(np.broadcast_to(center, (len(steps), 2)), east, north)
    whole = shapely.linestrings(np.stack([np.unwrap(latlon[:, 1], period=360), latlon[:, 0]], axis=1))
    turned = shapely.intersection([translate(whole, turn) for turn in (-360, 0, 360)], WINDOW)
    # Sides that meet must do so in equal numbers, or they leave a gap and bound no face; turns are rounded.
    return shapely.transform(shapely.union_all(turned), lambda xy: np.round(xy, DECIMALS))


def shared_borders(
    faces: Shaped[np.ndarray, "f"],
) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"], Float64[np.ndarray, "p"]]:
    """Pairs of faces with a common border, each pair once, and its length in degrees."""
    a, b = shapely.STRtree(faces).query(faces, predicate="intersects")
    a, b = a[a < b], b[a < b]
    length = shapely.length(shapely.intersection(shapely.boundary(faces[a]), shapely.boundary(faces[b])))
    return a[length > 0], b[length > 0], length[length > 0]


def without_strays(faces: Shaped[np.ndarray, "f"], labels: Int[np.ndarray, "f"]) -> Int[np.ndarray, "f"]:
    """Groups of the faces once each group's stray parts have gone to the neighbour with the longest common border.

    The largest part of a group is its own; a part that touches no other group, an island, stays.
    """
    labels = labels.copy()
    a, b, length = shared_borders(faces)
    area = shapely.area(faces)
    while True:
        part = _parts(labels, a, b)
        size = np.bincount(part, area)
        owner = np.zeros(len(size), np.int64)
        owner[part] = labels
        largest = np.lexsort([size, owner])[np.append(np.flatnonzero(np.diff(np.sort(owner))), len(size) - 1)]
        between = part[a] != part[b]
        stray = np.setdiff1d(np.union1d(part[a[between]], part[b[between]]), largest)
        if len(stray) == 0:
            return labels
        chosen = stray[np.argmin(size[stray])]
        touching = np.concatenate([labels[b[between & (part[a] == chosen)]], labels[a[between & (part[b] == chosen)]]])
        lengths = np.concatenate([length[between & (part[a] == chosen)], length[between & (part[b] == chosen)]])
        labels[part == chosen] = np.argmax(np.bincount(touching, lengths))


def _parts(labels: Int[np.ndarray, "f"], a: Int[np.ndarray, "p"], b: Int[np.ndarray, "p"]) -> Int[np.ndarray, "f"]:
    """The number of the connected part of its own group that each face belongs to."""
    same = labels[a] == labels[b]
    graph = coo_array((np.ones(same.sum()), (a[same], b[same])), shape=(len(labels), len(labels)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
