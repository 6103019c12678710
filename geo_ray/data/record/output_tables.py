"""Predictions as GeoParquet."""

import numpy as np
import pyarrow as pa
import shapely

from geo_ray.atlas.geoparquet import geoparquet_metadata
from geo_ray.pipeline.columns import ADDRESS, EXIF_DISTANCE, EXIF_POINT, Batch, has_answer

CANDIDATE = pa.struct(
    [
        ("cell_id", pa.string()),
        ("probability", pa.float64()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("geometry", pa.binary()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("cell_id", pa.string()),
        ("probability", pa.float64()),
        ("region_probability", pa.float64()),
        ("country_probability", pa.float64()),
        ("radius_km_50", pa.float64()),
        ("radius_km_90", pa.float64()),
        ("unlike", pa.float64()),
        ("country", pa.string()),
        ("region", pa.string()),
        ("place", pa.string()),
        ("candidates", pa.list_(CANDIDATE)),
        ("cell_latitude", pa.float64()),
        ("cell_longitude", pa.float64()),
        ("problem", pa.string()),
        ("bundle_fingerprint", pa.string()),
    ],
    metadata={b"geo": geoparquet_metadata(["Point"])},
)
BYTES_PER_ANSWER = 400  # in a file, with room to spare: 234 were seen, of short ids
ADDRESSED = pa.struct([*CANDIDATE, *((column.name, pa.string()) for column in ADDRESS)])


def schema_of(batch: Batch) -> pa.Schema:
    """The columns of a file of such answers: those of all, and those that addresses and comparing with EXIF add."""
    fields = list(SCHEMA)
    if ADDRESS[0].name in batch:
        at = SCHEMA.get_field_index("candidates")
        fields[at] = pa.field("candidates", pa.list_(ADDRESSED))
        fields += [pa.field(column.name, pa.string()) for column in ADDRESS]
    if EXIF_DISTANCE.name in batch:
        fields += [pa.field(column.name, pa.float64()) for column in (*EXIF_POINT, EXIF_DISTANCE)]
    return pa.schema(fields, metadata=SCHEMA.metadata)


def prediction_table(batch: Batch) -> pa.Table:
    """The answers of a graph as rows of a prediction file; what a row with a problem has no value for is null."""
    answered = has_answer(batch["problem"])
    schema = schema_of(batch)
    columns: dict[str, pa.Array] = {}
    for field in schema:
        if field.name == "geometry":
            points = shapely.to_wkb(shapely.points(batch["longitude"], batch["latitude"]))
            columns[field.name] = pa.array(np.where(answered, points, None), field.type)
        elif field.type == pa.float64():
            columns[field.name] = pa.array(batch[field.name], field.type, mask=~answered | np.isnan(batch[field.name]))
        else:
            columns[field.name] = pa.array(batch[field.name].tolist(), field.type)
    return pa.table(columns, schema=schema)


def feature_table(batch: Batch) -> pa.Table:
    """Image features as rows of a file; a row with a problem has none."""
    answered, features = batch["problem"] == "", batch["image_features"]
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(features.ravel(), pa.float32()), features.shape[1], mask=pa.array(~answered)
    )
    texts = {name: pa.array(batch[name].tolist(), pa.string()) for name in ("image_id", "uri", "problem")}
    columns = {"image_id": texts["image_id"], "uri": texts["uri"], "features": lists, "problem": texts["problem"]}
    if "phash" in batch:
        columns["phash"] = pa.array(batch["phash"], pa.uint64(), mask=~answered)
    return pa.table(columns)
