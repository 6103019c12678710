"""What makes a parquet file GeoParquet."""

import json
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


def polygons_of(path: Path, wkb: Shaped[np.ndarray, "p"]) -> Shaped[np.ndarray, "p"]:
    """The polygons of a file's WKB; ``InputError`` where one can't be read."""
    try:
        return np.asarray(shapely.from_wkb(wkb))
    except (shapely.GEOSException, TypeError) as error:
        raise InputError(f"{path} holds geometry that can't be read: {error}; write the file again") from error


def read_columns(
    path: Path, what: str, columns: tuple[str, ...], remedy: str
) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """Columns of a parquet file as arrays, and its metadata; ``InputError`` where it can't be read or lacks one."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable GeoParquet file of {what}: {error}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"{path} lacks the columns {missing}; {remedy}")
    arrays = {name: table.column(name).to_numpy(zero_copy_only=False) for name in columns}
    return arrays, dict(table.schema.metadata or {})
