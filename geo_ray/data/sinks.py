"""Predictions as GeoParquet."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyarrow.fs import FileSelector, FileSystem

from geo_ray.atlas.geoparquet import geoparquet_metadata
from geo_ray.pipeline.columns import Batch

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
        ("radius_km_50", pa.float64()),
        ("radius_km_90", pa.float64()),
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


def prediction_table(batch: Batch) -> pa.Table:
    """The answers of a graph as rows of a prediction file; what a row with a problem has no value for is null."""
    answered = batch["problem"] == ""
    columns: dict[str, pa.Array] = {}
    for field in SCHEMA:
        if field.name == "geometry":
            points = shapely.to_wkb(shapely.points(batch["longitude"], batch["latitude"]))
            columns[field.name] = pa.array(np.where(answered, points, None), field.type)
        elif field.type == pa.float64():
            columns[field.name] = pa.array(batch[field.name], field.type, mask=~answered | np.isnan(batch[field.name]))
        else:
            columns[field.name] = pa.array(batch[field.name].tolist(), field.type)
    return pa.table(columns, schema=SCHEMA)


def feature_table(batch: Batch) -> pa.Table:
    """Image features as rows of a file; a row with a problem has none."""
    answered, features = batch["problem"] == "", batch["image_features"]
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(features.ravel(), pa.float32()), features.shape[1], mask=pa.array(~answered)
    )
    texts = {name: pa.array(batch[name].tolist(), pa.string()) for name in ("image_id", "uri", "problem")}
    return pa.table(
        {"image_id": texts["image_id"], "uri": texts["uri"], "features": lists, "problem": texts["problem"]}
    )


def part_files(fs: FileSystem, folder: str) -> list[str]:
    """The parquet files of a predictions folder, sorted; none where the folder is not there."""
    infos = fs.get_file_info(FileSelector(folder, allow_not_found=True))
    return sorted(info.path for info in infos if info.path.endswith(".parquet"))


def written_rows(fs: FileSystem, folder: str) -> dict[str, str]:
    """``image_id`` to ``problem`` of every written row.

    A part that a killed writer left without its footer is deleted: its rows are not written. Raises ``ValueError`` when
    a row is there twice, which no run of ours does.
    """
    rows: dict[str, str] = {}
    for path in part_files(fs, folder):
        try:
            table = pq.read_table(path, columns=["image_id", "problem"], filesystem=fs)
        except pa.ArrowInvalid:
            fs.delete_file(path)
            continue
        before = len(rows)
        rows |= dict(zip(table["image_id"].to_pylist(), table["problem"].to_pylist(), strict=True))
        if len(rows) != before + len(table):
            raise ValueError(f"{path} repeats image ids of other parts")
    return rows


def count_problems(rows: dict[str, str]) -> dict[str, int]:
    """How many rows have each problem, most frequent first."""
    return dict(Counter(problem for problem in rows.values() if problem).most_common())
