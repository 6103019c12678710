"""Partitions as GeoParquet files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from geo_ray.atlas.geoparquet import read_areas, write_areas
from geo_ray.cells.partition import CellSizes, Partition
from geo_ray.errors import InputError

COLUMNS = ("cell_id", "count", "latitude", "longitude", "country", "admin_1", "reason")
SIZES = b"geo_ray.cell_sizes"  # the key of the limits in the file's metadata


def write_partition(partition: Partition, path: Path) -> None:
    """Write one row a cell: id, count, centre, country, admin 1, reason of an odd size, and polygon."""
    columns = {
        "cell_id": pa.array(partition.cell_ids, pa.string()),
        "count": pa.array(partition.counts, pa.int64()),
        "latitude": pa.array(partition.centers[:, 0]),
        "longitude": pa.array(partition.centers[:, 1]),
        "country": pa.array(partition.countries, pa.string()),
        "admin_1": pa.array(partition.admin_1, pa.string()),
        "reason": pa.array(partition.reasons, pa.string()),
    }
    sizes = json.dumps(dataclasses.asdict(partition.sizes)).encode()
    write_areas(path, columns, partition.polygons, {SIZES: sizes})


def read_partition(path: Path) -> Partition:
    """Read what ``write_partition`` wrote; ``InputError`` names a column that is missing."""
    remedy = "write it with `geo-ray cells build`"
    columns, polygons, metadata = read_areas(path, "cells", COLUMNS, remedy)
    if SIZES not in metadata:
        raise InputError(f"{path} lacks the metadata {SIZES.decode()}; {remedy}")
    return Partition(
        cell_ids=columns["cell_id"],
        polygons=polygons,
        centers=np.stack([columns["latitude"], columns["longitude"]], axis=1),
        counts=columns["count"],
        countries=columns["country"],
        admin_1=columns["admin_1"],
        reasons=columns["reason"],
        sizes=CellSizes(**json.loads(metadata[SIZES])),
    )
