"""Comparisons of ways are by place and in pairs."""

import numpy as np
import pytest

from geo_ray.benchmarks import partitions
from geo_ray.benchmarks.by_place import difference_row, place_row, row_text
from geo_ray.benchmarks.partitions import Embedded, compare_partitions
from geo_ray.cells.partition_file import read_partition
from geo_ray.evaluation.bootstrap import Groups
from geo_ray.models.bundle import CELLS, open_bundle
from geo_ray.recipes.earth_tiny import earth_tiny


def test_a_way_that_is_always_a_little_worse():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(50), rng.integers(1, 20, 50))
    groups = Groups(numbers=numbers, described="test")
    errors = rng.exponential(30, 50)[numbers]
    row, found = place_row(errors, groups), difference_row(errors + 1, errors, groups)
    assert found["median_error_km"]["value"] == pytest.approx(1.0)
    assert found["median_error_km"]["shown"]
    low, high = row["intervals_95"]["median_error_km"]
    assert low < row["median_error_km"] < high
    assert "+1.00 km (+1.00 to +1.00)" in row_text(row, found)
    noisy = difference_row(errors + rng.normal(0, 1, len(errors)), errors, groups)
    assert "not shown" in row_text(row, noisy)


def test_partitions_are_compared_with_the_first(monkeypatch):
    latlon = np.column_stack([np.arange(40.0), np.zeros(40)])
    empty = Embedded(latlon=latlon, features=np.zeros((40, 2), np.float32))
    errors = iter(np.full((4, 40), [[10.0], [11.0], [20.0], [21.0]]))
    monkeypatch.setattr(partitions, "embedded_splits", lambda bundle, config: (empty, empty))
    monkeypatch.setattr(
        partitions, "_errors", lambda *_: {"num_cells": 3, "cell_centre": next(errors), "refined": next(errors)}
    )
    cells = read_partition(open_bundle("earth-tiny").path(CELLS))
    first, second = compare_partitions("earth-tiny", {"a": cells, "b": cells}, earth_tiny()[0])
    assert first["refined"]["difference"]["median_error_km"]["value"] == 0.0
    assert second["cell_centre"]["difference"]["median_error_km"]["value"] == 10.0
    assert second["refined"]["median_error_km"] == 21.0
