"""Which cell a point belongs to."""

import numpy as np
import shapely
from jaxtyping import Float64, Int
from scipy.spatial import cKDTree

from geo_ray.cells.partition import Partition
from geo_ray.geo.sphere import check_latlon, unit_vectors


def cells_of(latlon: Float64[np.ndarray, "n 2"], partition: Partition) -> Int[np.ndarray, "n"]:
    """The index of the cell that covers each point (degrees).

    A point on a common border belongs to the cell of the lowest index. A point that no polygon covers (the sea, in a
    partition of the land) belongs to the cell with the nearest centre. Points that are not degrees in range raise
    ``ValueError``.
    """
    check_latlon(latlon)
    tree = shapely.STRtree(partition.polygons)
    points, cells = tree.query(shapely.points(latlon[:, 1], latlon[:, 0]), predicate="intersects")
    found = np.full(len(latlon), len(partition), np.int64)
    np.minimum.at(found, points, cells)
    stray = found == len(partition)
    if stray.any():
        found[stray] = nearest_centers(latlon[stray], partition)
    return found


def nearest_centers(latlon: Float64[np.ndarray, "n 2"], partition: Partition) -> Int[np.ndarray, "n"]:
    """The index of the cell whose centre is nearest to each point (degrees), covered by it or not.

    A head trained on distances to centres ranks cells by it; retrieval behind the head files its members by it too.
    """
    return np.asarray(cKDTree(unit_vectors(partition.centers)).query(unit_vectors(latlon))[1], np.int64)
