"""The bulk job on a local Ray: every input has one row, bad ones too; it resumes, and it says when too much failed."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.data.record import prediction_files
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.errors import ErrorBudgetError, InputError, OutputError
from geo_ray.models.bundle import open_bundle
from geo_ray.remote.place import Place
from tests.bad_images import READABLE, UNREADABLE, write_kind
from tests.crops import jpeg_crops, write_crops

PLACE = Place(num_workers=1, batch_size=64)  # to start one takes longer than to answer a few hundred images
TWO = Place(num_workers=2, batch_size=64)


def run(inputs, output, place=PLACE, **options):
    options = GeotagOptions(inputs=(str(inputs),), output=str(output), **options)
    return geotag(prepare(options), place)


def rows_by_id(output):
    rows = pq.read_table(output / "predictions").to_pylist()
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {row["image_id"]: row for row in rows}


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory):
    """300 inputs, 55 of them odd: five of each of eleven kinds."""
    folder = tmp_path_factory.mktemp("mixed")
    write_crops(folder, 240)
    crops = jpeg_crops(5, seed=9)
    for kind in (*READABLE, *UNREADABLE):
        for number, crop in enumerate(crops):
            write_kind(kind, folder / f"{number}_{kind}", crop)
    for number, crop in enumerate(crops):
        (folder / f"{number}_plain.jpg").write_bytes(crop)
    return folder


@pytest.fixture(scope="module")
def mixed_output(mixed_folder, tmp_path_factory, ray_session):
    output = tmp_path_factory.mktemp("out")
    manifest = run(mixed_folder, output, TWO, max_problem_share=0.09)
    return output, manifest


def test_every_input_has_one_row(mixed_folder, mixed_output):
    output, manifest = mixed_output
    assert rows_by_id(output).keys() == {path.name for path in mixed_folder.iterdir()}
    assert manifest["num_images"] == 300
    assert sum(manifest["problems"].values()) == 25
    assert (output / "_SUCCESS").exists()
    assert json.loads((output / "manifest.json").read_text()) == manifest


def test_bad_inputs_carry_their_problem_and_no_answer(mixed_output):
    rows = rows_by_id(mixed_output[0])
    for kind, code in UNREADABLE.items():
        for number in range(5):
            row = rows[f"{number}_{kind}"]
            assert row["problem"] == code
            assert row["latitude"] is None
            assert row["geometry"] is None
            assert row["candidates"] == []


def test_odd_inputs_are_answered(mixed_output):
    rows, level = rows_by_id(mixed_output[0]), open_bundle("earth-tiny").calibration().likeness.level
    for kind in READABLE:
        for number in range(5):
            row = rows[f"{number}_{kind}"]
            assert row["problem"] == ""
            assert np.isfinite([row["latitude"], row["longitude"], row["unlike"]]).all()
            assert (row["radius_km_90"] is None) == (row["unlike"] < level)  # a few are unlike what the bundle knows


def test_a_rotated_image_is_answered_like_the_upright_one(mixed_output):
    """Rotation must be undone before encoding: the same crop, saved turned, gets the same cells."""
    rows = rows_by_id(mixed_output[0])
    same = [rows[f"{n}_rotated.jpg"]["cell_id"] == rows[f"{n}_plain.jpg"]["cell_id"] for n in range(5)]
    assert sum(same) >= 4


def test_a_second_run_gives_the_same_answers(mixed_folder, mixed_output, tmp_path, ray_session):
    run(mixed_folder, tmp_path, TWO)
    assert rows_by_id(tmp_path) == rows_by_id(mixed_output[0])


def test_above_the_budget_the_job_fails_with_everything_written(tmp_path, ray_session):
    folder = tmp_path / "in"
    write_crops(folder, 8)
    (folder / "a.jpg").write_bytes(b"")
    (folder / "b.jpg").write_bytes(b"no image")
    with pytest.raises(ErrorBudgetError, match=r"2 of 10 images have a problem .* 1 empty, 1 undecodable"):
        run(folder, tmp_path / "out")
    assert len(rows_by_id(tmp_path / "out")) == 10


def test_resume_completes_what_is_missing(tmp_path, ray_session):
    folder, output = tmp_path / "in", tmp_path / "out"
    paths = write_crops(folder, 40)
    late = [path.rename(tmp_path / path.name) for path in paths[30:]]
    run(folder, output)
    before = rows_by_id(output)
    for path in late:
        path.rename(folder / path.name)
    cut = output / "predictions" / "0123456789abcdef.parquet"
    cut.write_bytes(b"PAR1 a writer was killed here")
    with pytest.raises(OutputError, match="--resume"):
        run(folder, output)
    run(folder, output, resume=True)
    after = rows_by_id(output)
    assert not cut.exists()
    assert len(after) == 40
    assert {name: after[name] for name in before} == before


def test_files_of_predictions_are_made_while_the_run_goes_on(tmp_path, ray_session, monkeypatch):
    monkeypatch.setattr(prediction_files, "BLOCKS_PER_FILE", 3)
    images, output = tmp_path / "in", tmp_path / "out"
    write_crops(images, 400)
    counts = []

    def see(answered):
        counts.append([len(list((output / name).glob("*"))) for name in ("ledger", "predictions", "parts")])

    geotag(prepare(GeotagOptions(inputs=(str(images),), output=str(output))), PLACE, see)
    num_blocks = len(counts)
    assert num_blocks >= 16
    assert 3 * counts[-1][0] >= num_blocks / 4  # of its blocks a good part was in files before the last one was done
    assert max(parts for _, _, parts in counts) < num_blocks
    assert rows_by_id(output).keys() == {path.name for path in images.iterdir()}
    assert not list((output / "parts").iterdir())


def test_an_empty_folder_of_another_run_is_refused(tmp_path, ray_session):
    write_crops(tmp_path / "a", 2)
    write_crops(tmp_path / "b", 2)
    run(tmp_path / "a", tmp_path / "out")
    listed = sorted(os.listdir(tmp_path / "out" / "predictions"))
    with pytest.raises(OutputError, match="another run's results"):
        run(tmp_path / "b", tmp_path / "out", resume=True)
    assert sorted(os.listdir(tmp_path / "out" / "predictions")) == listed


def test_parts_of_the_graph_on_processes_of_their_own_give_the_same_answers(tmp_path, ray_session):
    """As on GPUs: read, decoded, encoded by an actor, which may search too, located and committed by others."""
    write_crops(tmp_path / "in", 70)
    write_kind("text.jpg", tmp_path / "in" / "bad.jpg", b"")
    apart = Place(num_workers=1, batch_size=8, decode_apart=True)
    places = {
        "together": PLACE,
        "decoding apart": apart,
        "apart": replace(apart, num_locators=2),
        "searched by torch": replace(apart, num_locators=1, search_on_gpu=True),
    }
    answers = {}
    for name, place in places.items():
        options = GeotagOptions(inputs=(str(tmp_path / "in"),), output=str(tmp_path / name))
        manifest = geotag(prepare(options), place)
        assert {"Decode", "Encode", "Describe", "write"} <= manifest["stages"].keys()
        answers[name] = rows_by_id(tmp_path / name)
    assert len(answers["together"]) == 71
    assert all(found == answers["together"] for found in answers.values())


def test_files_that_are_decoded_where_they_are_encoded(tmp_path, ray_session):
    """As on GPUs with ``--decode gpu``; the run keeps to it when it is resumed."""
    write_crops(tmp_path / "in", 40)
    write_kind("text.jpg", tmp_path / "in" / "bad.jpg", b"")
    here = Place(num_workers=1, batch_size=8, decode_apart=True, num_locators=1)
    options = GeotagOptions(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"))
    geotag(prepare(options), replace(here, decode_on_gpu=True))
    assert {image_id for image_id, row in rows_by_id(tmp_path / "out").items() if row["problem"]} == {"bad.jpg"}
    assert (tmp_path / "out" / "decode.json").read_text() == '"gpu"'
    with pytest.raises(InputError, match="images decoded on GPUs"):
        geotag(prepare(replace(options, resume=True)), here)


def test_a_run_that_was_begun_on_cpus_decodes_on_them(tmp_path, ray_session):
    write_crops(tmp_path / "in", 10)
    options = GeotagOptions(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"))
    geotag(prepare(options), PLACE)
    write_crops(tmp_path / "in", 20)
    with pytest.raises(InputError, match="images decoded on CPUs"):
        geotag(prepare(replace(options, resume=True, decode="gpu")), replace(PLACE, decode_on_gpu=True))
    geotag(prepare(replace(options, resume=True)), replace(PLACE, decode_on_gpu=True))
    assert not (tmp_path / "out" / "decode.json").exists()
    assert len(rows_by_id(tmp_path / "out")) == 20


def test_features_from_processes_of_their_own(tmp_path, ray_session):
    write_crops(tmp_path / "in", 40)
    apart = Place(num_workers=1, batch_size=8, decode_apart=True, num_locators=1)
    features = []
    for name, place in (("together", PLACE), ("apart", apart)):
        options = GeotagOptions(inputs=(str(tmp_path / "in"),), output=str(tmp_path / name), features=True)
        geotag(prepare(options), place)
        features.append({image_id: row["features"] for image_id, row in rows_by_id(tmp_path / name).items()})
    assert len(features[0]) == 40
    assert features[0] == features[1]
