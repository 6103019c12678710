"""Naive geocells: balanced rectangles of latitude and longitude, the baseline of PIGEON's ablation.

The globe is halved until no part holds more than ``max_size`` points, so the rectangles cover it without overlap.
"""

import numpy as np
import shapely
from jaxtyping import Float64, Int

from geo_ray.cells.partition import CellSizes, Partition, from_polygons
from geo_ray.geo.sphere import check_latlon

Box = tuple[float, float, float, float]  # south, west, north, east
MIN_GAP_DEGREES = 1e-9  # 0.1 mm; the middle of a gap of one rounding step would be one of its ends


def build_rectangles(latlon: Float64[np.ndarray, "n 2"], sizes: CellSizes) -> Partition:
    """The partition of the Earth into rectangles for these training points (degrees)."""
    if len(latlon) == 0:
        raise ValueError("no training points to build cells from")
    check_latlon(latlon)
    done: list[tuple[Box, Int[np.ndarray, "m"]]] = []
    todo: list[tuple[Box, Int[np.ndarray, "m"]]] = [((-90.0, -180.0, 90.0, 180.0), np.arange(len(latlon)))]
    while todo:
        box, rows = todo.pop()
        halves = _halve(latlon[rows], box, sizes) if len(rows) > sizes.max_size else None
        if halves is None:
            done.append((box, rows))
            continue
        (box_a, mask), (box_b, _) = halves
        todo += [(box_a, rows[mask]), (box_b, rows[~mask])]
    done.sort(key=lambda item: item[0])
    cells = np.empty(len(latlon), np.int64)
    for number, (_, rows) in enumerate(done):
        cells[rows] = number
    polygons = np.array([shapely.box(west, south, east, north) for (south, west, north, east), _ in done], dtype=object)
    return from_polygons(polygons, latlon, cells, sizes)


def _halve(points: Float64[np.ndarray, "n 2"], box: Box, sizes: CellSizes) -> tuple[tuple[Box, np.ndarray], ...] | None:
    """The box in two at its points' median, across their longer extent on the ground where it can be, else the other.

    None where no cut leaves both halves enough.
    """
    south, west, north, east = box
    extent = np.ptp(points, axis=0) * [1.0, np.cos(np.radians(points[:, 0].mean()))]
    for axis in np.argsort(-extent, kind="stable"):
        cut = _median_gap(points[:, axis], sizes.min_size)
        if cut is None:
            continue
        mask = points[:, axis] < cut
        if axis == 0:
            return ((south, west, cut, east), mask), ((cut, west, north, east), ~mask)
        return ((south, west, north, cut), mask), ((south, cut, north, east), ~mask)
    return None


def _median_gap(values: Float64[np.ndarray, "n"], min_size: int) -> float | None:
    """The middle of the gap nearest the median that leaves ``min_size`` values on either side."""
    ordered = np.sort(values)
    cuts = np.flatnonzero(np.diff(ordered) > MIN_GAP_DEGREES) + 1  # how many values lie below the cut
    cuts = cuts[(cuts >= min_size) & (cuts <= len(values) - min_size)]
    if len(cuts) == 0:
        return None
    cut = cuts[np.argmin(np.abs(cuts - len(values) / 2))]
    return float((ordered[cut - 1] + ordered[cut]) / 2)
