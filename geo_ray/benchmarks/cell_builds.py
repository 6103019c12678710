"""How long a partition takes to build, and what its tasks say of larger clusters."""

import time
from collections import defaultdict
from typing import Any

import numpy as np
from jaxtyping import Float64

from geo_ray.atlas.boundaries import Boundaries
from geo_ray.cells.describe import size_histogram
from geo_ray.cells.partition import Partition
from geo_ray.cells.semantic import Semantic
from geo_ray.geo.sphere import destination
from geo_ray.remote.build_tasks import TaskDone
from geo_ray.remote.cell_tasks import build_cells

JITTER_KM = 2.0  # of resampled places: about the size of a neighbourhood


def resampled(latlon: Float64[np.ndarray, "n 2"], number: int, seed: int) -> Float64[np.ndarray, "m 2"]:
    """So many of the places (degrees), drawn with replacement and moved by about two kilometres."""
    rng = np.random.default_rng(seed)
    drawn = latlon[rng.integers(0, len(latlon), number)]
    moved = destination(drawn, *rng.normal(0, JITTER_KM, (2, number)))
    return np.asarray(moved)


def timed_build(
    boundaries: Boundaries, latlon: Float64[np.ndarray, "n 2"], semantic: Semantic
) -> tuple[Partition, dict[str, Any]]:
    """The partition, and a row of its sizes and times.

    The times are seconds by the clock, and CPU seconds of the driver, of each step's tasks and of the longest of them.
    """
    seconds: dict[str, list[float]] = defaultdict(list)

    def record(task: TaskDone) -> None:
        seconds[task.step].append(task.seconds)

    start, own = time.perf_counter(), time.process_time()
    partition = build_cells(boundaries, latlon, semantic, record)
    row: dict[str, Any] = {
        "num_points": len(latlon),
        "seconds": time.perf_counter() - start,
        "driver_s": time.process_time() - own,
    }
    for step, each in seconds.items():
        name = step.replace(" ", "_")
        row |= {f"num_{name}": len(each), f"{name}_s": sum(each), f"longest_{name}_s": max(each)}
    return partition, row | {"num_cells": len(partition), "sizes": size_histogram(partition)}


def estimate_seconds(row: dict[str, Any], num_points: int, num_cpus: int) -> float:
    """What a build of more points takes on more CPUs, from a measured row.

    The driver's part stays on one CPU and grows with the points; tasks are shared out until the longest of a step is
    left. That of a country grows with the points, that of a large cell with their square, as OPTICS does.
    """
    factor = num_points / row["num_points"]
    countries = max(row["countries_s"] / num_cpus, row["longest_countries_s"]) * factor
    longest = row.get("longest_large_cells_s", 0.0) * factor**2
    cells = max(row.get("large_cells_s", 0.0) * factor / num_cpus, longest)
    return float(row["driver_s"] * factor + countries + cells)
