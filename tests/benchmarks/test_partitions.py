"""Partitions of about the same number of cells."""

import numpy as np
import pytest

from geo_ray.benchmarks.partitions import of_size
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.cells.s2 import build_s2


@pytest.mark.parametrize("build", [build_rectangles, build_s2])
@pytest.mark.parametrize("num_cells", [20, 50])
def test_as_many_cells_as_asked_for(build, num_cells):
    rng = np.random.default_rng(0)
    latlon = np.stack([rng.normal(45, 6, 2000), rng.normal(10, 9, 2000)], axis=1)
    built = of_size(lambda sizes: build(latlon, sizes), num_cells)
    assert (built.counts > 0).sum() == pytest.approx(num_cells, rel=0.25)
