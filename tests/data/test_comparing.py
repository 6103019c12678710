"""Predictions judged in parts by Ray are what one process makes of them."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.data import comparing
from geo_ray.data.comparing import compare_run
from geo_ray.errors import InputError
from geo_ray.evaluation.comparison import Comparison, compare
from geo_ray.evaluation.tables import open_predictions, read_part, read_predictions, read_truth
from geo_ray.models.bundle import open_bundle
from tests.evaluation.prediction_rows import answer, problem, write_run

NUM_IMAGES = 60


def write_images(folder, bundle=None):
    """Answers of all kinds in three files of several row groups, and a table that knows two thirds of them."""
    rng = np.random.default_rng(5)
    latlon = np.stack([rng.uniform(-80, 80, NUM_IMAGES), rng.uniform(-180, 180, NUM_IMAGES)], axis=1)
    rows = [
        answer(f"{row:03d}.jpg", *latlon[row].tolist(), country=["FR", "DE", ""][row % 3], radius_km_90=30.0 + row)
        if row % 7
        else problem(f"{row:03d}.jpg")
        for row in range(NUM_IMAGES)
    ]
    write_run(folder, rows, num_files=3, manifest=bundle and {"bundle": bundle})
    for path in (folder / "predictions").iterdir():
        pq.write_table(pq.read_table(path), path, row_group_size=6)
    known = np.flatnonzero(np.arange(NUM_IMAGES) % 3)[::-1]
    truth = {
        "image_id": [f"{row:03d}.jpg" for row in known],
        "latitude": latlon[known, 0],
        "longitude": latlon[known, 1],
    }
    truth["country"] = ["FR" if row % 2 else "" for row in known]
    pq.write_table(pa.table(truth), folder / "truth.parquet")
    return read_truth(folder / "truth.parquet")


def assert_same(found: Comparison, wanted: Comparison):
    for field in dataclasses.fields(Comparison):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype, field.name
            np.testing.assert_array_equal(ours, theirs, field.name)
    assert found.ids.equals(wanted.ids)
    assert found.num_places_as_country == wanted.num_places_as_country
    np.testing.assert_array_equal(found.groups.numbers, wanted.groups.numbers)


@pytest.mark.parametrize("with_bundle", [False, True])
@pytest.mark.usefixtures("ray_session")
def test_parts_are_judged_as_the_whole(tmp_path, monkeypatch, with_bundle):
    bundle = {"ref": "earth-tiny", "fingerprint": open_bundle("earth-tiny").fingerprint} if with_bundle else None
    truth = write_images(tmp_path / "run", bundle)
    monkeypatch.setattr(comparing, "MANY", 1)
    monkeypatch.setattr(comparing, "ROWS_A_PART", 10)
    monkeypatch.setattr(comparing, "connected", lambda address, num_cpus: nullcontext())  # the session's Ray
    predictions, found = compare_run(str(tmp_path / "run"), truth, "local")
    wanted = compare(read_predictions(tmp_path / "run"), truth)
    assert_same(found, wanted)
    assert (found.right_cell is not None) == with_bundle
    assert not predictions.has("latitude")


def test_few_are_judged_without_ray(tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "connected", None)
    truth = write_images(tmp_path / "run")
    _, found = compare_run(str(tmp_path / "run"), truth, "local")
    assert_same(found, compare(read_predictions(tmp_path / "run"), truth))


@pytest.mark.parametrize("num_rows", [1, 6, 10, 1000])
def test_parts_are_all_rows_in_order(tmp_path, num_rows):
    write_images(tmp_path / "run")
    opened = open_predictions(tmp_path / "run")
    parts = opened.parts(num_rows)
    ids = [image for part in parts for image in read_part(opened.path, part, {}).ids.to_pylist()]
    assert ids == opened.ids.to_pylist()
    assert [part.first_row for part in parts] == np.cumsum([0, *(part.num_rows for part in parts)])[:-1].tolist()
    assert len(parts) == {1: 12, 6: 12, 10: 6, 1000: 3}[num_rows]


def test_an_answer_out_of_range_is_found_in_its_part(tmp_path):
    write_run(tmp_path / "run", [answer("a", 91.0, 0.0)], num_files=1)
    opened = open_predictions(tmp_path / "run")
    with pytest.raises(InputError, match="correct or remove"):
        read_part(opened.path, opened.parts(10)[0], {})


def test_a_table_of_text_has_no_parts(tmp_path):
    (tmp_path / "p.csv").write_text("image_id,latitude,longitude\na,1,2\n")
    assert open_predictions(tmp_path / "p.csv") is None
