"""Bulk runs over photos that carry GPS: ignored, left out or compared; never in logs, in outputs only where asked."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geo_ray.cli import main
from geo_ray.data.record.output_tables import SCHEMA
from geo_ray.data.run.job import geotag
from geo_ray.data.run.plan import dry_run_text
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.errors import ErrorBudgetError, InputError, OutputError
from geo_ray.geo.sphere import great_circle_km
from geo_ray.remote.place import Place
from tests.crops import jpeg_crops
from tests.gps_photos import photo

PLACE = Place(num_workers=1, batch_size=16)
NUM_TAGGED, NUM_PLAIN = 6, 6
HERE = (37.123456, -122.654321)
TAGS = {1: "N", 2: (37.123456, 0.0, 0.0), 3: "W", 4: (122.654321, 0.0, 0.0)}
SECRETS = ("37.1234", "122.6543")  # of HERE, in whatever sign


def run(inputs, output, place=PLACE, **options):
    return geotag(prepare(GeotagOptions(inputs=(str(inputs),), output=str(output), **options)), place)


def table_of(output):
    (path,) = (output / "predictions").iterdir()
    return pq.read_table(path)


def rows_by_id(output):
    return {row["image_id"]: row for row in table_of(output).to_pylist()}


def tagged(crop):
    return photo(tags=TAGS, image=Image.open(io.BytesIO(crop)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    crops = jpeg_crops(NUM_TAGGED + NUM_PLAIN, seed=3)
    for number, crop in enumerate(crops):
        name, content = (f"gps_{number}", tagged(crop)) if number < NUM_TAGGED else (f"plain_{number}", crop)
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def outputs(folder, tmp_path_factory, ray_session):
    """The outputs by choice."""
    root = tmp_path_factory.mktemp("outputs")
    for exif in ("ignore", "skip", "compare"):
        run(folder, root / exif, exif=exif, max_problem_share=0.0)
    return root


def test_ignored_photos_are_answered_like_any(outputs):
    assert table_of(outputs / "ignore").schema.names == SCHEMA.names
    assert all(row["problem"] == "" for row in rows_by_id(outputs / "ignore").values())


def test_skipped_photos_have_a_problem_that_fails_no_job(outputs):
    """The runs above allow no problem at all."""
    rows, ignored = rows_by_id(outputs / "skip"), rows_by_id(outputs / "ignore")
    assert rows.keys() == ignored.keys()
    for name, row in rows.items():
        assert row["problem"] == ("has_location" if name.startswith("gps") else "")
        if row["problem"]:
            assert row["geometry"] is row["latitude"] is row["probability"] is None
        else:
            assert row == ignored[name]
    manifest = json.loads((outputs / "skip" / "manifest.json").read_text())
    assert manifest["problems"] == {"has_location": NUM_TAGGED}
    assert manifest["num_images"] == NUM_TAGGED + NUM_PLAIN
    assert manifest["options"]["exif"] == "skip"


def test_compared_photos_have_three_more_columns(outputs):
    table = table_of(outputs / "compare")
    more = ["exif_latitude", "exif_longitude", "exif_distance_km"]
    assert table.schema.names == [*SCHEMA.names, *more]
    assert table.schema.metadata == SCHEMA.metadata
    assert table.select(SCHEMA.names).sort_by("image_id").to_pylist() == (
        table_of(outputs / "ignore").sort_by("image_id").to_pylist()
    )
    for name, row in rows_by_id(outputs / "compare").items():
        if name.startswith("gps"):
            assert (row["exif_latitude"], row["exif_longitude"]) == pytest.approx(HERE, abs=1e-6)
            answer, there = np.array([[row["latitude"], row["longitude"]]]), np.array([HERE])
            assert row["exif_distance_km"] == pytest.approx(great_circle_km(answer, there)[0], rel=1e-6)
        else:
            assert row["exif_latitude"] is row["exif_longitude"] is row["exif_distance_km"] is None


def test_decoding_apart_gives_the_same(folder, outputs, tmp_path):
    run(folder, tmp_path, place=Place(num_workers=1, batch_size=16, decode_apart=True), exif="compare")
    assert rows_by_id(tmp_path) == rows_by_id(outputs / "compare")


def test_the_coordinates_are_nowhere_unasked(outputs):
    for path in sorted(outputs.rglob("*")):
        if path.is_file():
            text = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()
            asked = path.is_relative_to(outputs / "compare" / "predictions")
            assert any(secret in text for secret in SECRETS) == asked, path


def test_they_are_not_printed(folder, tmp_path, ray_session, capfd):
    run(folder, tmp_path, exif="compare")
    printed = "".join(capfd.readouterr())
    assert not any(secret in printed for secret in SECRETS)


def test_other_problems_are_shares_of_what_is_left(folder, tmp_path, ray_session):
    """Half of the photos that are to be answered are bad, of all a fifth."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(6):
        (inputs / f"gps_{number}.jpg").write_bytes((folder / "gps_0.jpg").read_bytes())
    for number in range(2):
        (inputs / f"bad_{number}.jpg").write_bytes(b"no image")
        (inputs / f"good_{number}.jpg").write_bytes((folder / "plain_6.jpg").read_bytes())
    with pytest.raises(ErrorBudgetError, match=r"2 of 4 images have a problem \(50.0%, .*: 2 undecodable;"):
        run(inputs, tmp_path / "out", exif="skip", max_problem_share=0.3)


def test_all_photos_may_be_left_out(folder, tmp_path, ray_session):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.jpg").write_bytes((folder / "gps_0.jpg").read_bytes())
    assert run(inputs, tmp_path / "out", exif="skip", max_problem_share=0.0)["problems"] == {"has_location": 1}


def test_a_run_goes_on_with_its_own_choice_only(folder, outputs):
    with pytest.raises(OutputError, match="exif 'skip' there, 'compare' asked for"):
        run(folder, outputs / "skip", exif="compare", resume=True)


def test_what_cannot_be_asked_for(folder, tmp_path):
    with pytest.raises(InputError, match="exif='maybe' must be one of"):
        GeotagOptions(inputs=(str(folder),), output=str(tmp_path), exif="maybe")
    with pytest.raises(InputError, match="leave it out where features are written"):
        GeotagOptions(inputs=(str(folder),), output=str(tmp_path), exif="skip", features=True)


@pytest.mark.parametrize("exif", ["skip", "compare"])
def test_a_dry_run_can_time_it(folder, tmp_path, exif):
    options = GeotagOptions(inputs=(str(folder),), output=str(tmp_path / "out"), exif=exif)
    assert "images/s a worker" in dry_run_text(prepare(options, dry_run=True), PLACE, 2.0)


def test_on_the_terminal(folder, capsys):
    """Without ``--output``: 37.1235, -122.6543 is printed for those who ask to compare."""
    for exif in ("ignore", "skip", "compare"):
        assert main(["geotag", str(folder / "gps_0.jpg"), "--exif", exif]) == 0
        printed = capsys.readouterr().out
        assert ("37.1235, -122.6543, where its EXIF says it was taken" in printed) == (exif == "compare")
        assert ("no answer: has_location" in printed) == (exif == "skip")
    assert main(["geotag", str(folder / "plain_6.jpg"), "--exif", "compare"]) == 0
    assert "EXIF" not in capsys.readouterr().out
