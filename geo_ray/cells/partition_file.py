"""Partitions as GeoParquet files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geo_ray.atlas.geoparquet import geoparquet_metadata, polygons_of, read_columns
from geo_ray.cells.partition import CellSizes, Partition
from geo_ray.errors import InputError

COLUMNS = ("cell_id", "count", "latitude", "longitude", "country", "admin_1", "reason", "geometry")
SIZES = b"geo_ray.cell_sizes"  # the key of the limits in the file's metadata


def write_partition(partition: Partition, path: Path) -> None:
    """Write one row a cell: id, count, centre, country, admin 1, reason of an odd size, and polygon."""
    table = pa.table(
        {
            "cell_id": pa.array(partition.cell_ids, pa.string()),
            "count": pa.array(partition.counts, pa.int64()),
            "latitude": partition.centers[:, 0],
            "longitude": partition.centers[:, 1],
            "country": pa.array(partition.countries, pa.string()),
            "admin_1": pa.array(partition.admin_1, pa.string()),
            "reason": pa.array(partition.reasons, pa.string()),
            "geometry": pa.array(shapely.to_wkb(partition.polygons), pa.binary()),
        }
    )
    sizes = json.dumps(dataclasses.asdict(partition.sizes)).encode()
    metadata = {b"geo": geoparquet_metadata(["Polygon", "MultiPolygon"]), SIZES: sizes}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)


def read_partition(path: Path) -> Partition:
    """Read what ``write_partition`` wrote; ``InputError`` names a column that is missing."""
    remedy = "write it with `geo-ray cells build`"
    columns, metadata = read_columns(path, "cells", COLUMNS, remedy)
    if SIZES not in metadata:
        raise InputError(f"{path} lacks the metadata {SIZES.decode()}; {remedy}")
    return Partition(
        cell_ids=columns["cell_id"],
        polygons=polygons_of(path, columns["geometry"]),
        centers=np.stack([columns["latitude"], columns["longitude"]], axis=1),
        counts=columns["count"],
        countries=columns["country"],
        admin_1=columns["admin_1"],
        reasons=columns["reason"],
        sizes=CellSizes(**json.loads(metadata[SIZES])),
    )
