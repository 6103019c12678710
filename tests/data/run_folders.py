"""Finished runs as exports read them, from rows that say only what a test is about."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.record.output_tables import SCHEMA
from geo_ray.data.record.prediction_files import ROWS_PER_GROUP

PLACE = {
    "latitude": 48.858,
    "longitude": 2.2945,
    "cell_id": "c1",
    "probability": 0.5,
    "radius_km_50": 5.0,
    "radius_km_90": 25.5,
    "country": "FR",
    "region": "Île-de-France",
    "place": "Paris",
    "candidates": [{"cell_id": "c1", "probability": 0.5, "latitude": 48.858, "longitude": 2.2945}],
    "cell_latitude": 48.0,
    "cell_longitude": 2.0,
    "problem": "",
    "bundle_fingerprint": "f",
    "geometry": b"",
}


def answer(image_id, uri=None, **more):
    """A row that has an answer."""
    return PLACE | {"image_id": image_id, "uri": str(uri) if uri else f"/nowhere/{image_id}"} | more


def problem(image_id, code="undecodable"):
    """A row that has none."""
    return {"image_id": image_id, "uri": f"/nowhere/{image_id}", "problem": code, "country": "", "candidates": []}


def write_run(folder, rows, num_files=2, schema=SCHEMA):
    """A finished run of these rows."""
    (folder / "predictions").mkdir(parents=True)
    names = [f"{number:016x}.parquet" for number in range(num_files)]
    for number, name in enumerate(names):
        table = pa.Table.from_pylist(rows[number::num_files], schema=schema)
        pq.write_table(table, folder / "predictions" / name, row_group_size=ROWS_PER_GROUP)
    (folder / "run.json").write_text(json.dumps({"fingerprint": "0123"}))
    (folder / "manifest.json").write_text(json.dumps({"files": names}))
    (folder / "_SUCCESS").write_text("")
    return folder
