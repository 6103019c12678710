"""A partition in a few lines of text."""

import sys

import numpy as np

from geo_ray.cells.partition import Partition


def size_histogram(partition: Partition) -> dict[str, int]:
    """How many cells hold how many points, in five classes from none to more than twice the upper limit."""
    counts = partition.counts
    low, high = partition.sizes.min_size, partition.sizes.max_size
    too_few = f"1-{low - 1}" if low > 1 else "below 1"  # which none is
    ranges = {"0": (0, 0), too_few: (1, low - 1), f"{low}-{high}": (low, high)}
    ranges |= {f"{high + 1}-{2 * high}": (high + 1, 2 * high), f"above {2 * high}": (2 * high + 1, sys.maxsize)}
    return {name: int(((counts >= a) & (counts <= b)).sum()) for name, (a, b) in ranges.items()}


def describe(partition: Partition) -> str:
    """Number of cells, countries and points; the histogram of sizes; the reasons of odd ones."""
    counts, countries = partition.counts, len(set(partition.countries.tolist()) - {""})
    lines = [
        f"{len(partition):,} cells for {counts.sum():,} points"
        + (f" in {countries} countries" if countries else "")
        + f"; median {np.median(counts):.0f} points, largest {counts.max():,}",
        "points  cells",
        *(f"{name:>10}  {number:,}" for name, number in size_histogram(partition).items()),
    ]
    reasons, numbers = np.unique(partition.reasons[partition.reasons != ""].astype(str), return_counts=True)
    lines += [f"{reason}: {number:,} cells" for reason, number in zip(reasons, numbers, strict=True)]
    return "\n".join(lines)
