"""Answers below the certainty that is asked for, and images unlike all that a bundle knows."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geo_ray.cli import main
from geo_ray.data.exports.export import ExportOptions, export
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.comparison import load
from geo_ray.evaluation.evaluate import evaluate
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local
from geo_ray.remote.place import Place
from tests.crops import write_crops

NUM_CROPS, NUM_NOISE = 24, 6
FLOOR = {"min_probability": 0.9, "max_radius_km": 30.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Crops, pictures of noise, and one file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    write_crops(folder, NUM_CROPS, seed=1)
    rng = np.random.default_rng(0)
    for number in range(NUM_NOISE):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(folder / f"noise{number}.jpg")
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory, ray_session):
    """The output without and with a floor."""
    folder = tmp_path_factory.mktemp("runs")
    for name, floor in (("all", {}), ("certain", FLOOR)):
        options = GeotagOptions(inputs=(str(images),), output=str(folder / name), **floor)
        geotag(prepare(options), Place(num_workers=1, batch_size=16))
    return folder


def rows_of(output):
    return {row["image_id"]: row for row in pq.read_table(output / "predictions").to_pylist()}


def test_what_is_uncertain_keeps_its_answer_and_says_so(runs):
    before, after = rows_of(runs / "all"), rows_of(runs / "certain")
    for image_id, row in before.items():
        certain = row["probability"] is not None and row["probability"] >= 0.9 and row["radius_km_90"] <= 30.0
        expected = row["problem"] or ("" if certain else "uncertain")
        assert after[image_id] == row | {"problem": expected}
    problems = [row["problem"] for row in after.values()]
    assert 0 < problems.count("uncertain") < NUM_CROPS + NUM_NOISE
    manifest = json.loads((runs / "certain" / "manifest.json").read_text())
    assert manifest["options"]["min_probability"] == 0.9
    assert manifest["problems"]["uncertain"] == problems.count("uncertain")
    # more than a tenth has a problem, but being uncertain is no failure: the run ended well


def test_noise_is_unlike_and_nothing_is_stated_of_it(runs):
    level = open_bundle("earth-tiny").calibration().likeness.level
    rows = rows_of(runs / "all")
    noise = [row for name, row in rows.items() if name.startswith("noise")]
    assert sum(row["unlike"] < level for row in noise) >= NUM_NOISE - 1
    for row in rows.values():
        stated = [row[name] for name in ("probability", "country_probability", "region_probability", "radius_km_50")]
        assert (row["unlike"] is None) == bool(row["problem"])
        if row["unlike"] is not None and row["unlike"] < level:
            assert stated == [None] * 4
            assert {candidate["probability"] for candidate in row["candidates"]} == {None}
            assert row["latitude"] is not None
        elif not row["problem"]:
            assert None not in stated
            assert 0 < row["probability"] <= 1
            assert row["region_probability"] <= row["country_probability"] <= 1


def test_an_uncertain_answer_is_none_to_evaluation(runs, tmp_path):
    rows = rows_of(runs / "certain")
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "lat", "lon"])
        table.writerows([name, row["latitude"] or 0, row["longitude"] or 0] for name, row in rows.items())
    metrics = evaluate(*load(runs / "certain", tmp_path / "truth.csv"))
    certain = sum(row["problem"] == "" for row in rows.values())
    assert metrics["accuracy_at_km"]["1"] == certain / len(rows)
    assert metrics["num_problems"] == len(rows) - certain
    assert metrics["num_uncertain"] == len(rows) - certain - 1  # one is no image


def test_another_floor_is_another_run(images, runs, tmp_path):
    shutil.copytree(runs / "certain", tmp_path / "certain")
    options = {"inputs": (str(images),), "output": str(tmp_path / "certain"), "resume": True}
    with pytest.raises(OutputError, match="min_probability"):
        prepare(GeotagOptions(**options))
    prepare(GeotagOptions(**options, **FLOOR))


def test_exports_leave_out_what_is_uncertain(runs, tmp_path):
    uncertain = sum(row["problem"] == "uncertain" for row in rows_of(runs / "certain").values())
    total = NUM_CROPS + NUM_NOISE + 1
    said = export(ExportOptions(run=str(runs / "certain"), to="xmp", output=str(tmp_path / "xmp")))
    assert f"{uncertain} uncertain, left out" in said
    assert len(list((tmp_path / "xmp").glob("*.xmp"))) == total - 1 - uncertain
    for leave_out, count in ((False, total), (True, total - uncertain)):
        folder = tmp_path / f"json{leave_out}"
        options = ExportOptions(
            run=str(runs / "certain"), to="geojson", output=str(folder), leave_out_uncertain=leave_out
        )
        export(options)
        features = json.loads((folder / "predictions.geojson").read_text())["features"]
        assert len(features) == count
        assert sum(one["geometry"] is None for one in features) == 1  # the file that is no image
        assert all(one["geometry"] for one in features if one["properties"]["problem"] == "uncertain")
    with pytest.raises(InputError, match="geojson and csv"):
        ExportOptions(run="x", to="xmp", leave_out_uncertain=True)


def test_the_terminal_says_both_plainly(images, capsys):
    assert main(["geotag", str(images / "noise0.jpg"), str(images / "000.jpg"), "--min-probability", "1"]) == 0
    text = capsys.readouterr().out
    assert "unlike the images that this bundle knows" in text
    assert text.count("uncertain: ") == 2
    assert "within" in text  # of the crop
    assert "None" not in text
    assert "nan" not in text


@pytest.mark.parametrize(("option", "value"), [("--min-probability", "1.5"), ("--max-radius-km", "0")])
def test_a_floor_that_makes_no_sense(images, tmp_path, option, value, capsys):
    arguments = ["geotag", str(images), "--output", str(tmp_path / "out"), option, value]
    assert main(arguments) == 2
    assert value in capsys.readouterr().err
    assert main(["geotag", str(images / "000.jpg"), option, value]) == 2


def test_radii_that_were_never_fitted_can_not_be_asked_for(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(open_bundle("earth-tiny").folder, folder)
    (folder / "calibration.json").write_text("{}")
    manifest = json.loads((folder / "bundle.json").read_text())
    bundle = open_bundle("earth-tiny")
    assert manifest["fingerprint"] == bundle.fingerprint
    with pytest.raises(InputError, match="calibrate it first"):
        graph_of(replace(bundle, folder=folder), max_radius_km=5.0)
    graph_of(replace(bundle, folder=folder), min_probability=0.5)
    with pytest.raises(InputError, match="no radii with this index"):
        graph_of(bundle, max_radius_km=5.0, index="another")


def test_nothing_is_stated_with_another_index_than_was_calibrated(images):
    """Candidates keep what they are ranked by; all else was fitted with the bundle's own."""
    batch = source_batch(["a"], ["a"], [(images / "000.jpg").read_bytes()], [""])
    stated, plain = (
        next(run_local(graph_of(open_bundle("earth-tiny"), index=index), [batch])) for index in ("", "another")
    )
    assert (plain["latitude"], plain["cell_id"]) == (stated["latitude"], stated["cell_id"])
    for name in ("radius_km_50", "radius_km_90", "region_probability", "country_probability", "unlike"):
        assert np.isfinite(stated[name]).all()
        assert np.isnan(plain[name]).all()
    assert 0 < plain["probability"][0] <= 1
    assert plain["probability"][0] != stated["probability"][0]
