"""Zero-shot and gallery bundles, and panoramas: one graph in process and on Ray Data, one report, one calibration."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.cli import main
from geo_ray.data.calibrate import calibrate
from geo_ray.data.record.output_tables import prediction_table
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.data.sources import SourceOptions, fetch, input_batches, list_inputs, num_views
from geo_ray.errors import InputError
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models import published
from geo_ray.models.bundle import open_bundle
from geo_ray.models.geoclip import CLIP_FEATURES, read_geoclip
from geo_ray.models.published import Import, LabelChoice, import_bundle
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local
from geo_ray.remote.place import Place
from tests.crops import write_crops
from tests.models.address_bundles import write_addresses_of_a_grid
from tests.models.checkpoint_files import TINY, write_hugging_face

PLACE = Place(num_workers=1, batch_size=16)
NUM_IMAGES = 60
KINDS = ("streetclip", "beam", "tree", "geoclip", "address")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A bundle of each kind and method, of random weights."""
    folder = tmp_path_factory.mktemp("bundles")
    plain = write_hugging_face(folder / "hf")
    wide = write_hugging_face(folder / "wide", TINY | {"projection_dim": CLIP_FEATURES})
    few, whole = LabelChoice(num_cities=3), read_geoclip()  # its gallery takes half a minute to embed
    wanted = {
        "streetclip": Import(kind="streetclip", source=str(plain), labels=few),
        "beam": Import(kind="openclip", source=str(plain), labels=few, method="beam"),
        "tree": Import(kind="openclip", source=str(plain), labels=LabelChoice(num_cities=1), method="tree"),
        "geoclip": Import(kind="geoclip", source=str(wide)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(published, "read_geoclip", lambda: replace(whole, gallery_latlon=whole.gallery_latlon[::20]))
        for name, what in wanted.items():
            import_bundle(what, folder / name, say=lambda text: None)
    write_addresses_of_a_grid(folder / "address", plain)
    return {name: str(folder / name) for name in KINDS}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Crops, one file that is no image, a manifest of four-view items, and a truth table."""
    folder = tmp_path_factory.mktemp("crops")
    names = [path.name for path in write_crops(folder / "in", NUM_IMAGES, seed=5)]
    (folder / "in" / "bad.jpg").write_bytes(b"no image")
    with (folder / "views.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["panorama", "path"])
        table.writerows([f"p{number // 4:02d}", f"in/{name}"] for number, name in enumerate(names))
    rng = np.random.default_rng(0)
    with (folder / "truth.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "latitude", "longitude"])
        table.writerows([name, *rng.uniform((-60, -180), (70, 180))] for name in names)
    return folder


def local_rows(bundle, inputs):
    graph = graph_of(open_bundle(bundle), num_views=num_views(inputs))
    answers = run_local(graph, map(fetch, input_batches(inputs, 7)))
    return {row["image_id"]: row for answer in answers for row in prediction_table(answer).to_pylist()}


def run(bundle, inputs, output, **options):
    """The output of a run."""
    options = GeotagOptions(inputs=(str(inputs),), output=str(output), bundle=bundle, **options)
    geotag(prepare(options), PLACE)
    return output


def rows_of(output):
    return {row["image_id"]: row for row in pq.read_table(output / "predictions").to_pylist()}


@pytest.fixture(scope="module")
def outputs(bundles, images, tmp_path_factory, ray_session):
    """The output for the crops of each bundle."""
    folder = tmp_path_factory.mktemp("outputs")
    return {kind: run(bundle, images / "in", folder / kind) for kind, bundle in bundles.items()}


def assert_same(rows, oracle):
    assert rows.keys() == oracle.keys()
    for image_id, row in rows.items():
        expected = oracle[image_id]
        for name in ("cell_id", "country", "region", "place", "problem", "radius_km_90"):
            assert row[name] == expected[name]
        if not row["problem"]:
            numbers = ("latitude", "longitude", "probability")
            both = (np.array([each[n] for n in numbers], float) for each in (row, expected))  # None is NaN
            np.testing.assert_allclose(*both, rtol=0, atol=1e-6)
            assert [c["cell_id"] for c in row["candidates"]] == [c["cell_id"] for c in expected["candidates"]]


@pytest.mark.parametrize("kind", KINDS)
def test_ray_data_answers_as_in_process(kind, bundles, images, outputs):
    oracle = local_rows(bundles[kind], list_inputs([str(images / "in")]))
    assert_same(rows_of(outputs[kind]), oracle)
    assert oracle["bad.jpg"]["problem"] == "undecodable"
    good = [row for row in oracle.values() if not row["problem"]]
    assert len(good) == NUM_IMAGES
    assert all(row["radius_km_50"] is None for row in good)  # nothing was calibrated: nothing is claimed
    assert all(len(row["candidates"]) == 5 for row in good)
    assert all(0 < row["probability"] <= 1 for row in good)


@pytest.mark.parametrize("kind", ["streetclip", "geoclip"])
def test_panoramas_are_items_of_four_views(kind, bundles, images, tmp_path, ray_session):
    items = list_inputs([str(images / "views.csv")], views_by="panorama")
    assert len(items) == NUM_IMAGES // 4
    oracle = local_rows(bundles[kind], items)
    options = SourceOptions(views_by="panorama")
    assert_same(rows_of(run(bundles[kind], images / "views.csv", tmp_path, sources=options)), oracle)


@pytest.mark.parametrize("kind", ["streetclip", "geoclip"])
def test_evaluate_and_report_take_the_output_as_any_other(kind, images, outputs, tmp_path, capsys):
    metrics = tmp_path / "metrics.json"
    arguments = ["evaluate", str(outputs[kind]), "--truth", str(images / "truth.csv"), "--json", str(metrics)]
    assert main(arguments) == 0
    written = json.loads(metrics.read_text())
    assert written["num_images"] == NUM_IMAGES
    assert written["radius_coverage"] == {"50": None, "90": None}
    assert (written["cell_centre"] is None) == (kind == "geoclip")
    assert main(["report", str(outputs[kind]), "--truth", str(images / "truth.csv")]) == 0
    assert (outputs[kind] / "report.html").stat().st_size > 10_000
    capsys.readouterr()


def test_a_calibrated_bundle_states_radii_that_hold(bundles, images, tmp_path, ray_session):
    """On the images it was fitted on, half of the truths lie within the 50 % radius, nine tenths in the other."""
    said = calibrate(bundles["streetclip"], (str(images / "in"),), str(images / "truth.csv"), tmp_path / "b", PLACE)
    assert f"{NUM_IMAGES} images matched" in said
    calibrated = open_bundle(str(tmp_path / "b"))
    places = {"images": NUM_IMAGES, "places": NUM_IMAGES, "grouped_by": "blocks of 0.25 degrees"}
    assert calibrated.provenance["calibrated_on"] == places
    assert "by so many alone the 50 % radius may hold 38% to 63%" in said
    assert calibrated.fingerprint != open_bundle(bundles["streetclip"]).fingerprint
    run(str(tmp_path / "b"), images / "in", tmp_path / "out")
    assert main(["evaluate", str(tmp_path / "out"), "--truth", str(images / "truth.csv"), "--json",
                 str(tmp_path / "m.json")]) == 0  # fmt: skip
    coverage = json.loads((tmp_path / "m.json").read_text())["radius_coverage"]
    assert 0.5 <= coverage["50"] <= 0.5 + 4 / NUM_IMAGES
    assert 0.9 <= coverage["90"] <= 0.9 + 4 / NUM_IMAGES
    rows = [row for row in rows_of(tmp_path / "out").values() if not row["problem"]]
    unlike = [row for row in rows if row["unlike"] < calibrated.calibration().likeness.level]
    assert 1 <= len(unlike) <= 3  # of 60 one in twenty
    assert all(row["probability"] is None and row["radius_km_90"] is None for row in unlike)


def test_too_few_images_calibrate_nothing(bundles, images, tmp_path, ray_session):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((images / "in").glob("0*.jpg"))[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"in 5 places .*; radii need at least 20 places"):
        calibrate(bundles["streetclip"], (str(few),), str(images / "truth.csv"), tmp_path / "b", PLACE)


def test_places_by_a_column_of_the_truth(bundles, images, tmp_path, ray_session):
    """All images of one user are one place: too few to calibrate on."""
    rows = (images / "truth.csv").read_text().splitlines()
    (tmp_path / "users.csv").write_text("\n".join([rows[0] + ",user", *(row + ",me" for row in rows[1:])]))
    arguments = (bundles["streetclip"], (str(images / "in"),), str(tmp_path / "users.csv"), tmp_path / "b", PLACE)
    with pytest.raises(InputError, match=r"in 1 places .column 'user'."):
        calibrate(*arguments, group_by="user")


def test_the_command_line_says_that_no_radius_is_known(bundles, images, capsys):
    assert main(["geotag", str(images / "in" / "000.jpg"), "--bundle", bundles["streetclip"]]) == 0
    text = capsys.readouterr().out
    assert "how far off it may be is not known" in text
    assert "CC-BY-NC-4.0" in text


def test_calibrating_a_bundle_of_cells_fits_its_refinement(images, tmp_path, ray_session):
    """Truth is what earth-tiny answers with another refinement: that one has to come out better than where it began."""
    with (images / "made.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "latitude", "longitude"])
        for image_id, row in local_rows("earth-tiny", list_inputs([str(images / "in")])).items():
            if not row["problem"]:
                table.writerow([image_id, row["cell_latitude"], row["cell_longitude"]])
    said = calibrate("earth-tiny", (str(images / "in"),), str(images / "made.csv"), tmp_path / "b", PLACE)
    assert f"{NUM_IMAGES} images matched" in said
    before, after = open_bundle("earth-tiny"), open_bundle(str(tmp_path / "b"))
    assert after.refinement != before.refinement
    assert after.encoder_fingerprint == before.encoder_fingerprint
    errors = {}
    for bundle in (before, after):
        rows = local_rows(str(bundle.folder), list_inputs([str(images / "in")]))
        errors[bundle.ref] = np.mean([
            np.log1p(great_circle_km(np.array([row["latitude"], row["longitude"]]),
                                     np.array([row["cell_latitude"], row["cell_longitude"]])))
            for row in rows.values() if not row["problem"]
        ])  # fmt: skip
    assert errors[after.ref] < errors[before.ref]
