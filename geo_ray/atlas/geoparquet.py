"""What makes a parquet file GeoParquet."""

import json
from pathlib import Path

import numpy as np
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
