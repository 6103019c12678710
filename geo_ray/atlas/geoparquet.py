"""What makes a parquet file GeoParquet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from jaxtyping import Shaped

from geo_ray.errors import InputError


def geoparquet_metadata(geometry_types: list[str]) -> bytes:
    """The ``geo`` entry of a GeoParquet 1.1 file whose WKB column ``geometry`` is in OGC:CRS84, the default."""
    column = {"encoding": "WKB", "geometry_types": geometry_types, "edges": "planar"}
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()


def write_areas(
    path: Path, columns: Mapping[str, pa.Array], polygons: Shaped[np.ndarray, "a"], metadata: Mapping[bytes, bytes]
) -> None:
    """Write one row an area: these columns, and the polygon (longitude first) as ``geometry``."""
    geometry = pa.array(shapely.to_wkb(polygons), pa.binary())
    table = pa.table({**columns, "geometry": geometry})
    metadata = {b"geo": geoparquet_metadata(["Polygon", "MultiPolygon"]), **metadata}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)


def read_areas(
    path: Path, what: str, columns: tuple[str, ...], remedy: str
) -> tuple[dict[str, Any], Shaped[np.ndarray, "a"], dict[bytes, bytes]]:
    """What ``write_areas`` wrote: columns, polygons and metadata; ``InputError`` where it is no such file."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable GeoParquet file of {what}: {error}") from error
    missing = [name for name in (*columns, "geometry") if name not in table.column_names]
    if missing:
        raise InputError(f"{path} lacks the columns {missing}; {remedy}")
    arrays = {name: table.column(name).to_numpy(zero_copy_only=False) for name in columns}
    try:
        polygons = np.asarray(shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False)))
    except (shapely.GEOSException, TypeError) as error:
        raise InputError(f"{path} holds geometry that can't be read: {error}; write the file again") from error
    return arrays, polygons, dict(table.schema.metadata or {})
