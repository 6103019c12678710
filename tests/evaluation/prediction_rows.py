"""Predictions as geo-ray geotag writes them, from rows that say only what a test is about."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.record.output_tables import SCHEMA


def answer(image_id, latitude, longitude, **more):
    row = {
        "image_id": image_id,
        "uri": f"/nowhere/{image_id}",
        "latitude": latitude,
        "longitude": longitude,
        "cell_id": "c00001",
        "probability": 0.75,
        "radius_km_50": 10.0,
        "radius_km_90": 100.0,
        "country": "FR",
        "region": "Île-de-France",
        "place": "Paris",
        "candidates": [
            {"cell_id": "c00001", "probability": 0.75, "latitude": latitude, "longitude": longitude},
            {"cell_id": "c00002", "probability": 0.25, "latitude": -latitude, "longitude": longitude},
        ],
        "cell_latitude": latitude,
        "cell_longitude": longitude,
        "problem": "",
        "bundle_fingerprint": "d575ccd577667d74",
    }
    return row | more


def problem(image_id, code="undecodable"):
    return {"image_id": image_id, "uri": f"/nowhere/{image_id}", "problem": code, "country": ""}


def write_run(folder, rows, *, num_files=2, finished=True, manifest=None):
    (folder / "predictions").mkdir(parents=True)
    for number in range(num_files):
        part = pa.Table.from_pylist(rows[number::num_files], schema=SCHEMA)
        pq.write_table(part, folder / "predictions" / f"part-{number}.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest or {"images_per_second": 123.0}))
    (folder / "events.jsonl").write_text("")
    if finished:
        (folder / "_SUCCESS").write_text("")
    return folder
