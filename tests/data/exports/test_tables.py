"""GeoJSON and CSV: what GDAL and pyarrow read back, one row an image, whole or not at all, locally and on S3."""

import csv
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely

from geo_ray.cli import main
from geo_ray.data.exports.export import ExportOptions, export
from geo_ray.data.record.output_tables import SCHEMA, schema_of
from geo_ray.errors import InputError, OutputError
from geo_ray.pipeline.columns import EXIF_DISTANCE
from tests.data.run_folders import answer, problem, write_run
from tests.data.s3_server import s3_server

ODD = ['a "quoted", one.jpg', "line\nbreak.jpg", "ümlaut 東京.jpg", "=cmd.jpg", "back\\slash.jpg", "tab\t.jpg"]
SCALARS = [name for name in SCHEMA.names if name not in ("geometry", "candidates")]


def rows():
    found = [answer(name, latitude=-33.5, longitude=151.25) for name in ODD]
    return [*found, problem("bad.jpg"), answer("none.jpg", radius_km_90=None, radius_km_50=None)]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "out", rows())


def expected(run):
    table = pa.concat_tables(pq.read_table(path) for path in sorted((run / "predictions").iterdir()))
    return table.select(SCALARS).to_pylist()


def test_geojson_is_one_collection_with_all_scalars(run, tmp_path):
    assert export(ExportOptions(run=str(run), to="geojson")) == f"8 rows in {run}/geojson/predictions.geojson"
    content = (run / "geojson" / "predictions.geojson").read_bytes()
    assert b"\n" not in content
    collection = json.loads(content)
    assert collection.keys() == {"type", "features"}
    assert [feature["properties"] for feature in collection["features"]] == expected(run)
    for feature in collection["features"]:
        known = feature["properties"]
        point = {"type": "Point", "coordinates": [known["longitude"], known["latitude"]]}
        assert feature["geometry"] == (None if known["problem"] else point)


def test_geojson_opens_in_gdal(run):
    """What geopandas and QGIS read by."""
    export(ExportOptions(run=str(run), to="geojson"))
    path = run / "geojson" / "predictions.geojson"
    about, _, shapes, fields = pyogrio.raw.read(path)
    columns = dict(zip(about["fields"], fields, strict=True))
    assert about["crs"] == "EPSG:4326"
    assert set(about["fields"]) == set(SCALARS)
    assert list(columns["image_id"]) == [row["image_id"] for row in expected(run)]
    for shape, row in zip(shapes, expected(run), strict=True):
        if row["problem"]:
            assert shape is None
        else:
            assert shapely.from_wkb(shape) == shapely.Point(row["longitude"], row["latitude"])


def test_csv_reads_back(run):
    export(ExportOptions(run=str(run), to="csv"))
    path = run / "csv" / "predictions.csv"
    given = expected(run)
    convert = pa.csv.ConvertOptions(
        column_types={name: SCHEMA.field(name).type for name in SCALARS},
        strings_can_be_null=True, quoted_strings_can_be_null=False,
    )  # fmt: skip
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    assert pa.csv.read_csv(path, convert_options=convert, parse_options=parse).to_pylist() == given
    with path.open(encoding="utf-8", newline="") as file:
        plain = list(csv.DictReader(file))
    assert [row["image_id"] for row in plain] == [row["image_id"] for row in given]
    assert [row["latitude"] for row in plain] == ["" if row["problem"] else str(row["latitude"]) for row in given]
    assert list(plain[0]) == SCALARS


def test_columns_of_exif_are_there_where_they_were_asked_for(tmp_path):
    more = {"exif_latitude": 1.0, "exif_longitude": 2.0, "exif_distance_km": 3.0}
    run = write_run(
        tmp_path / "out", [answer("a.jpg", **more)], num_files=1, schema=schema_of({EXIF_DISTANCE.name: np.empty(0)})
    )
    export(ExportOptions(run=str(run), to="geojson"))
    feature = json.loads((run / "geojson" / "predictions.geojson").read_text())["features"][0]
    assert feature["properties"].items() >= more.items()


@pytest.mark.parametrize("to", ["geojson", "csv"])
def test_memory_does_not_grow_with_rows(tmp_path, to):
    """Peaks for one row group and for eight; other threads of the test run allocate meanwhile."""
    size = 2000
    run = write_run(tmp_path / "out", [answer(f"{n:06d}.jpg") for n in range(size)], num_files=1)
    (path,) = (run / "predictions").iterdir()
    group, peaks = pq.read_table(path), []
    for count in (1, 8):
        pq.write_table(pa.concat_tables([group] * count), path, row_group_size=size)
        tracemalloc.start()
        try:
            assert export(ExportOptions(run=str(run), to=to)).startswith(f"{count * size:,} rows")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


@pytest.mark.parametrize("to", ["geojson", "csv"])
def test_a_run_and_an_export_on_s3(run, tmp_path, to):
    with s3_server() as client:
        for path in run.rglob("*"):
            if path.is_file():
                client.put_object(Bucket="photos", Key=f"out/{path.relative_to(run)}", Body=path.read_bytes())
        said = export(ExportOptions(run="s3://photos/out", to=to))
        assert said == f"8 rows in s3://photos/out/{to}/predictions.{to}"
        export(ExportOptions(run=str(run), to=to, output=str(tmp_path / "local")))
        there = client.get_object(Bucket="photos", Key=f"out/{to}/predictions.{to}")["Body"].read()
        assert there == (tmp_path / "local" / f"predictions.{to}").read_bytes()
        with pytest.raises(OutputError, match="can't be written to 's3://missing/x'"):
            export(ExportOptions(run="s3://photos/out", to=to, output="s3://missing/x"))
        with pytest.raises(InputError, match="s3://missing"):
            export(ExportOptions(run="s3://missing/x", to=to))


@pytest.mark.parametrize("to", ["geojson", "csv"])
def test_what_was_there_stays_where_an_export_fails(run, tmp_path, to):
    """The second file is damaged, so the first rows were written by then."""
    export(ExportOptions(run=str(run), to=to))
    path = run / to / f"predictions.{to}"
    before = path.read_bytes()
    (run / "predictions" / f"{1:016x}.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"0001.parquet' can't be read"):
        export(ExportOptions(run=str(run), to=to))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_on_s3_a_failed_export_leaves_nothing(run):
    (run / "predictions" / f"{1:016x}.parquet").write_bytes(b"PAR1 cut")
    with s3_server("nothing") as client:
        with pytest.raises(InputError, match=r"0001.parquet' can't be read"):
            export(ExportOptions(run=str(run), to="csv", output="s3://nothing/csv"))
        assert "Contents" not in client.list_objects_v2(Bucket="nothing")
        assert "Uploads" not in client.list_multipart_uploads(Bucket="nothing")


def test_files_beside_the_run_are_not_its_own(run):
    pq.write_table(pa.Table.from_pylist([answer("mine.jpg")], schema=SCHEMA), run / "predictions" / "mine.parquet")
    assert export(ExportOptions(run=str(run), to="csv")).startswith("8 rows")


def test_what_is_no_finished_run(run, tmp_path):
    with pytest.raises(InputError, match="holds no predictions; name the --output of geo-ray geotag"):
        export(ExportOptions(run=str(tmp_path / "none"), to="csv"))
    (run / "_SUCCESS").unlink()
    with pytest.raises(InputError, match="not finished; complete it with geo-ray geotag --resume"):
        export(ExportOptions(run=str(run), to="csv"))
    features = pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("problem", pa.string())])
    embedded = write_run(tmp_path / "f", [{"image_id": "a", "uri": "b", "problem": ""}], num_files=1, schema=features)
    with pytest.raises(InputError, match="holds no answers: its files lack latitude, longitude, radius_km_90"):
        export(ExportOptions(run=str(embedded), to="csv"))


def test_an_output_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"predictions.csv can't be written to .*file"):
        export(ExportOptions(run=str(run), to="csv", output=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "kml"}, "exporting to 'kml' is not known; have geojson, csv, xmp, copies"),
        ({"to": "csv", "max_radius_km": 5.0}, "a largest radius is for xmp and copies"),
        ({"to": "xmp", "max_radius_km": 0.0}, "max_radius_km=0.0 must be positive"),
        ({"to": "xmp", "max_radius_km": float("nan")}, "max_radius_km=nan must be positive"),
        ({"to": "xmp", "overwrite_gps": True}, "overwriting positions is for copies"),
    ],
)
def test_options_that_do_not_fit(options, said):
    with pytest.raises(InputError, match=said):
        ExportOptions(run="out", **options)


def test_the_command(run, tmp_path, capsys):
    assert main(["export", str(run), "--to", "csv", "--output", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out == f"8 rows in {tmp_path}/x/predictions.csv\n"
    assert (tmp_path / "x" / "predictions.csv").read_text(encoding="utf-8").count("Île-de-France") == 7
    assert main(["export", str(tmp_path), "--to", "csv"]) == 2
    assert "holds no predictions" in capsys.readouterr().err
