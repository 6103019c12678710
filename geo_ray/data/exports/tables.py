"""Predictions as one GeoJSON or CSV file, written while they are read."""

import json
import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyarrow import csv

from geo_ray.data.exports.run_files import RunFiles
from geo_ray.geo.calibration import UNCERTAIN


def write_geojson(run: RunFiles, file: Any) -> int:
    """Write a FeatureCollection (RFC 7946) with all columns of one value as properties; the number of features.

    A row without an answer is a feature without geometry.
    """
    file.write(b'{"type":"FeatureCollection","features":[')
    count = 0
    for batch in run.batches(run.scalars):
        features = ",".join(_feature(row) for row in batch.to_pylist())
        file.write((("," if count and features else "") + features).encode())
        count += len(batch)
    file.write(b"]}")
    return count


def _feature(row: dict[str, Any]) -> str:
    point = [_finite(row["longitude"]), _finite(row["latitude"])]
    known = row["problem"] in ("", UNCERTAIN) and None not in point
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": point} if known else None,
        "properties": {name: _finite(value) for name, value in row.items()},
    }
    return json.dumps(feature, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    """The value, or None for a number that JSON doesn't know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(run: RunFiles, file: Any) -> int:
    """Write a row for each prediction with all columns of one value; the number of rows. Null is an empty field."""
    schema = pa.schema([run.schema.field(name) for name in run.scalars])
    count = 0
    with csv.CSVWriter(file, schema) as writer:
        for batch in _as(schema, run.batches(run.scalars)):
            writer.write_batch(batch)
            count += len(batch)
    return count


def _as(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    return (batch.select(schema.names).cast(schema) for batch in batches)
