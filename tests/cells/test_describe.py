"""A partition in words."""

import numpy as np
import shapely

from geo_ray.cells.describe import describe, size_histogram
from geo_ray.cells.partition import CellSizes, from_polygons

BOXES = np.array([shapely.box(x, 0, x + 1, 1) for x in range(6)], dtype=object)
COUNTS = [0, 2, 3, 6, 7, 13]
CELLS = np.repeat(np.arange(6), COUNTS)
LATLON = np.stack([np.full(len(CELLS), 0.5), CELLS + 0.5], axis=1)


def test_by_hand():
    partition = from_polygons(BOXES, LATLON, CELLS, CellSizes(min_size=3, max_size=6))
    assert size_histogram(partition) == {"0": 1, "1-2": 1, "3-6": 2, "7-12": 1, "above 12": 1}
    text = describe(partition)
    assert "6 cells for 31 points; median 4 points, largest 13" in text
    assert "no neighbour in the country: 2 cells" in text
    assert "not splittable: 2 cells" in text
