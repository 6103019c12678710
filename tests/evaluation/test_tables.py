import bz2
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prediction_rows import answer, problem

from geo_ray.errors import InputError
from geo_ray.evaluation.tables import read_predictions, read_truth

TWO = "image_id,latitude,longitude\na,10.5,20.25\nb,-30,170\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", TWO),
        ("t.csv", "﻿IMG_ID,LAT,LON\na,10.5,20.25\nb,-30,170\n"),
        ("t.tsv", "photo_id\tlng\tlat\na\t20.25\t10.5\nb\t170\t-30\n"),
        ("t.csv", "key;Latitude;Longitude;note\na;10.5;20.25;x\nb;-30;170;\n"),
        ("t.csv", '"image","lat","lon","text"\r\n"a",10.5,20.25,"two\r\nlines, one cell"\r\n"b",-30,170,""\r\n'),
    ],
)
def test_truth_under_usual_names(make_truth, name, text):
    truth = read_truth(str(make_truth(text, name)))
    assert truth.ids.to_pylist() == ["a", "b"]
    np.testing.assert_array_equal(truth.latlon, [[10.5, 20.25], [-30, 170]])
    assert truth.countries is None


def test_compressed_and_parquet_truth(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(TWO.encode()))
    (tmp_path / "t.csv.bz2").write_bytes(bz2.compress(TWO.encode()))
    table = pa.table({"id": pa.array([7, 8]), "lat": pa.array([10.5, -30], pa.float32()), "lon": [20.25, 170.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    for name in ("t.csv.gz", "t.csv.bz2", "t.parquet"):
        np.testing.assert_array_equal(read_truth(str(tmp_path / name)).latlon, [[10.5, 20.25], [-30, 170]])
    assert read_truth(str(tmp_path / "t.parquet")).ids.to_pylist() == ["7", "8"]


def test_ids_stay_texts(make_truth):
    truth = read_truth(str(make_truth("id,lat,lon,country\n007,1,2,NA\n1e3,1,2,\nnull,1,2,fr\n")))
    assert truth.ids.to_pylist() == ["007", "1e3", "null"]
    assert truth.countries.tolist() == ["NA", "", "fr"]  # Namibia is no missing value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,latitude,longitude\na,120,45\n", "look swapped"),
        ("image_id,latitude,longitude\na,45,200\n", "row 0"),
        ("image_id,latitude,longitude\na,,20\n", "not finite"),
        ("image_id,latitude,longitude\na,north,20\n", "north"),
        ("image_id,latitude,longitude\na,1,2\na,1,2\n", "'a'.*one row an image"),
        ("image_id,latitude,longitude\n,1,2\nb,1,2\n", "1 of 2 rows have no image id"),
        ("image_id,y,x\na,1,2\n", "no column for the latitude: it has image_id, y, x.*lat"),
        ("", "no column"),
    ],
)
def test_bad_truth_is_named(make_truth, text, message):
    path = make_truth(text)
    with pytest.raises(InputError, match=message) as caught:
        read_truth(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_tables_are_named(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "notes.doc").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("broken.parquet", "can't be read"),
        ("notes.doc", "unknown kind"),
        ("empty", "no parquet files"),
        ("missing.csv", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            read_truth(str(tmp_path / name))


def test_predictions_by_output_folder_by_folder_and_by_file(make_run):
    run = make_run([answer("a", 1.0, 2.0), problem("b"), answer("c", 3.0, 4.0)])
    (run / "predictions" / "_partial").mkdir()
    (run / "predictions" / "_partial" / "x.parquet").write_bytes(b"half written")
    for path in (run, run / "predictions"):
        predictions = read_predictions(str(path))
        assert sorted(predictions.ids.to_pylist()) == ["a", "b", "c"]
        assert predictions.manifest == {"images_per_second": 123.0}
        assert dict(zip(predictions.ids.to_pylist(), predictions.answered.tolist(), strict=True)) == {
            "a": True,
            "b": False,
            "c": True,
        }
    assert read_predictions(str(run / "predictions" / "part-1.parquet")).ids.to_pylist() == ["b"]


def test_candidates_are_read_by_id(make_run):
    predictions = read_predictions(str(make_run([answer("a", 1.0, 2.0), problem("b"), answer("c", 3.0, 4.0)])))
    found = predictions.candidates(["c", "b"])
    assert [candidate["probability"] for candidate in found["c"]] == [0.75, 0.25]
    assert found["b"] == []
    assert set(found) == {"b", "c"}


def test_predictions_may_be_a_plain_table(make_truth):
    predictions = read_predictions(str(make_truth(TWO, "other_model.csv")))
    assert predictions.answered.tolist() == [True, True]
    assert not predictions.has("country")
    assert predictions.candidates(["a"]) == {}


def test_unfinished_run_and_damaged_manifest(make_run):
    run = make_run([answer("a", 1.0, 2.0)], finished=False)
    assert not read_predictions(str(run)).finished
    (run / "_SUCCESS").touch()
    assert read_predictions(str(run)).finished
    (run / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_predictions(str(run))


def test_repeated_predictions_are_named(make_run):
    with pytest.raises(InputError, match="'a'"):
        read_predictions(str(make_run([answer("a", 1.0, 2.0), answer("b", 1.0, 2.0), answer("a", 1.0, 2.0)])))
