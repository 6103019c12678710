"""Small training tables, written without Ray."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.tables.training import MANIFEST, SCHEMA
from tests.crops import jpeg_crops

COUNTRIES = ("CH", "FR", "NL", "ZA")
TOWNS = ("Bern", "Paris", "Utrecht", "Cape Town")


def rows_of(count, features=None, jpegs=(), seed=0, first=0):
    """``count`` rows about four towns, with climate, heading and month of some."""
    rng = np.random.default_rng(seed)
    centers = np.array([[46.95, 7.45], [48.86, 2.35], [52.09, 5.12], [-33.9, 18.4]])
    town = (np.arange(count) + first) % 4
    latlon = centers[town] + rng.normal(0, 0.3, (count, 2))
    columns = {
        "image_id": [f"image-{first + row}" for row in range(count)],
        "uri": ["nowhere"] * count,
        "bytes": [jpegs[row % len(jpegs)] for row in range(count)] if jpegs else [None] * count,
        "problem": [""] * count,
        "latitude": latlon[:, 0],
        "longitude": latlon[:, 1],
        "group": [""] * count,
        "place": [f"place-{(first + row) // 2}" for row in range(count)],
        "view": [row % 2 for row in range(count)],
        "country": [COUNTRIES[t] for t in town],
        "region": [f"Region {t}" for t in town],
        "town": [TOWNS[t] for t in town],
        "climate": [None if row % 5 == 0 else int(t) for row, t in enumerate(town)],
        "drive_side": ["left" if t == 3 else "right" for t in town],
        "elevation_m": [None if row % 3 == 0 else float(100 * t) for row, t in enumerate(town)],
        "temperature": [10.0 + t for t in town],
        "population": [float(1000 * (1 + t)) for t in town],
        "month": [None if row % 4 == 0 else 1 + row % 12 for row in range(count)],
        "heading": [None if row % 2 else float(row % 360) for row in range(count)],
    }
    schema = pa.schema([field for field in SCHEMA if field.name != "split"])
    table = pa.table({field.name: pa.array(columns.get(field.name, [None] * count), field.type) for field in schema})
    if features is None:
        return table
    column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    return table.append_column("features", column)


def write_table(folder, splits, rows_per_group=8, rows_per_file=24):
    """Write rows of splits as ``geo-ray table`` lays them out."""
    for split, rows in splits.items():
        target = folder / f"split={split}"
        target.mkdir(parents=True)
        for start in range(0, len(rows), rows_per_file):
            part = rows.slice(start, rows_per_file)
            pq.write_table(part, target / f"{start:06d}.parquet", row_group_size=rows_per_group)
    (folder / MANIFEST).write_text(json.dumps({"digest": "0123"}))
    return str(folder)


def feature_table(folder, count=400, width=8, num_validation=40, seed=0):
    """A table with features that tell the four towns apart, and nothing else."""
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(4, width)) * 3

    def made(count, first):
        town = (np.arange(count) + first) % 4
        features = (corners[town] + rng.normal(size=(count, width))).astype(np.float32)
        return rows_of(count, features, seed=seed + first, first=first)

    splits = {"train": made(count, 0), "validation": made(num_validation, count), "test": made(40, count + 1000)}
    return write_table(folder, splits, rows_per_group=40, rows_per_file=120)


def image_table(folder, count=48, num_validation=8, seed=0):
    """A table of satellite crops, whose captions have nothing to do with what is seen."""
    jpegs = jpeg_crops(12, seed)
    splits = {"train": rows_of(count, jpegs=jpegs), "validation": rows_of(num_validation, jpegs=jpegs, first=count)}
    return write_table(folder, splits)
