"""Which cell a point belongs to."""

import numpy as np
from jaxtyping import Float64, Int
from scipy.spatial import cKDTree

from geo_ray.cells.partition import Partition
from geo_ray.geo.sphere import unit_vectors

FILINGS = ("center", "polygon")  # the cell of the nearest centre, or the one that covers the point


def cells_of(latlon: Float64[np.ndarray, "n 2"], partition: Partition) -> Int[np.ndarray, "n"]:
    """The index of the cell of each point (degrees): the one that covers it, or at sea the nearest by great circle.

    A point on a common border belongs to the cell of the lowest index. Points that are not degrees in range raise
    ``ValueError``.
    """
    return partition.areas.locate(latlon).areas


def file_points(latlon: Float64[np.ndarray, "n 2"], partition: Partition, filed_by: str) -> Int[np.ndarray, "n"]:
    """The index of the cell that each point (degrees) is filed in, by one of the rules of ``FILINGS``."""
    if filed_by not in FILINGS:
        raise ValueError(f"filed_by={filed_by!r} must be one of {', '.join(FILINGS)}")
    return (cells_of if filed_by == "polygon" else nearest_centers)(latlon, partition)


def nearest_centers(latlon: Float64[np.ndarray, "n 2"], partition: Partition) -> Int[np.ndarray, "n"]:
    """The index of the cell whose centre is nearest to each point (degrees), covered by it or not.

    A head trained on distances to centres ranks cells by it; retrieval behind the head files its members by it too.
    """
    return np.asarray(cKDTree(unit_vectors(partition.centers)).query(unit_vectors(latlon))[1], np.int64)
