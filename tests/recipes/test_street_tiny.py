"""From a city's streets to a bundle that answers with addresses, in few steps."""

import json
import shutil

import numpy as np
import pytest

from geo_ray.atlas.address_lists import candidates_of
from geo_ray.cli import main
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.data.training_table import TableOptions, build_training_table
from geo_ray.errors import InputError
from geo_ray.models.bundle import open_bundle
from geo_ray.recipes import run_recipe
from geo_ray.remote.place import Place as WorkerPlace
from geo_ray.train.address_chain import addresses_of_texts, check_ready, table_addresses
from geo_ray.train.address_task import AddressConfig
from geo_ray.train.chain import Place
from geo_ray.train.config import Scale
from tests.atlas.street_graphs import grid
from tests.data.test_training_table import FEW
from tests.datasets.test_street_map import write_city

CHANGES = ("num_steps=3", "batch_size=16", "shuffled_rows=32", "log_every=1", "validate_every=2", "num_candidates=6")


@pytest.fixture(scope="module")
def run(tmp_path_factory, ray_session):
    folder = tmp_path_factory.mktemp("streets")
    city = write_city(folder / "city", grid(4, 3))
    table = TableOptions(inputs=(f"streets:4@{city}",), output=str(folder / "table"), covariates=FEW)
    build_training_table(table, lambda text: None)
    said = []
    place = Place(table=str(folder / "table"), scale=Scale(threads_per_worker=1), say=said.append)
    run_recipe("street-tiny", folder / "out", place, CHANGES)
    return folder, said


def test_every_step_is_told_and_leaves_its_own(run):
    folder, said = run
    assert [text[:6] for text in said if text[1:6] == " of 4"] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert 0 <= metrics["ssa_1"] <= metrics["ssa_5"] <= 1
    assert metrics["num_images"] == 17 * 5
    bundle = open_bundle(str(folder / "out" / "bundle"))
    assert (bundle.kind, bundle.calibration().num_places) == ("address", 17)
    assert "SSA-1" in (folder / "out" / "MODEL_CARD.md").read_text()


def test_its_answers_are_evaluated(run, capsys, monkeypatch):
    folder, _ = run
    monkeypatch.chdir(folder)
    test = "table/split=test"
    options = GeotagOptions(inputs=(str(folder / test),), output=str(folder / "answers"),
                            bundle=str(folder / "out" / "bundle"))  # fmt: skip
    geotag(prepare(options), WorkerPlace(num_workers=1, batch_size=32))
    command = ["evaluate", "answers", "--truth", test, "--group-by", "place", "--addresses", "out/bundle"]
    assert main([*command, "--json", "metrics.json"]) == 0
    shown = capsys.readouterr().out
    assert "SA-5" in shown
    found = json.loads((folder / "metrics.json").read_text())["addresses"]
    chain = json.loads((folder / "out" / "metrics.json").read_text())
    for name in ("ssa_1", "ssa_5", "sa_1", "num_images"):
        assert found[name] == pytest.approx(chain[name])
    assert main(["address", "map", "out/bundle", "Row 1", "--images", "out/features", "--streets",
                 "city/streets.parquet", "--output", "map.png"]) == 0  # fmt: skip
    assert (folder / "map.html").is_file()


def test_what_would_end_it_after_training_is_said_before(run, tmp_path):
    folder, _ = run
    table = folder / "table"
    short = tmp_path / "short"
    shutil.copytree(table, short)
    shutil.rmtree(short / "split=test")
    config = AddressConfig(checkpoint=str(folder / "out" / "fresh"))
    with pytest.raises(InputError, match="has no images of the split test"):
        check_ready(config, str(short), table_addresses(str(table)))
    long = addresses_of_texts({"very " * 100 + "long street": np.array([[40.0, -80.0]])})
    with pytest.raises(InputError, match="tokens, the model reads 77"):
        check_ready(config, str(table), long)
    check_ready(config, str(table), table_addresses(str(table)))


def test_candidates_of_a_table_without_a_file_of_addresses(run, tmp_path):
    folder, _ = run
    known = table_addresses(str(folder / "table"))
    texts = dict.fromkeys(known.texts.tolist(), known.latlon[:1])
    published = "located in the Downtown, specifically on a section of Third Avenue that near Grant Building"
    read = addresses_of_texts(texts | {published: known.latlon[:1], "the old mill": known.latlon[:2]})
    rows = {text: row for row, text in enumerate(read.texts)}
    for row, text in enumerate(known.texts):
        assert read.streets[rows[text]] == known.streets[row]
        assert read.crossings[rows[text]] == known.crossings[row]
        assert read.neighbourhoods[rows[text]] == known.neighbourhoods[row]
    assert (read.streets[-2], read.crossings[-2], read.neighbourhoods[-2]) == (
        "Third Avenue", ("Grant Building",), "Downtown",
    )  # fmt: skip
    assert (read.streets[-1], read.texts[-1]) == ("", "the old mill")
    assert len(candidates_of(known, "neighbourhood")) == 2
