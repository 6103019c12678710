"""The whole chain: table, pretraining, embedding, cells, head, index, calibration, and a bundle that geotags."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.cli import main
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import embedding_graph, graph_of
from geo_ray.pipeline.local import run_local
from geo_ray.recipes import run_recipe
from geo_ray.train.chain import Place
from geo_ray.train.config import Scale
from geo_ray.train.embedding import feature_arrays
from tests.source_tree import environment


@pytest.fixture(scope="module")
def run(tmp_path_factory, ray_session):
    """``geo-ray train smoke`` in a process of its own, by a user without a checkout; its folder and what it said."""
    folder = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "geo_ray.cli", "train", "smoke", "--output", str(folder / "out"),
               "--threads-per-worker", "1"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out", done.stdout


def test_every_step_is_told_and_leaves_its_own(run):
    folder, said = run
    for step in ("0 of 6: table", "1 of 6: contrastive", "2 of 6: cells", "3 of 6", "4 of 6: head", "6 of 6: eval"):
        assert step in said
    for name in ("table/_table.json", "clip/model/model.safetensors", "features/_table.json", "cells.parquet",
                 "head/best.safetensors", "bundle/bundle.json", "metrics.json", "MODEL_CARD.md",
                 "training.html"):  # fmt: skip
        assert (folder / name).exists(), name
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 < metrics["refined"]["median_error_km"] < 9000
    assert metrics["num_places"] > 20


def test_the_bundle_answers_as_the_chain_saw(run):
    """Prototypes and queries can't differ: a member's own image has the features that the table has."""
    folder, _ = run
    bundle = open_bundle(str(folder / "bundle"))
    assert (bundle.encoder.features, bundle.encoder.normalize) == ("tokens", False)
    features, latlon, ids = feature_arrays(str(folder / "features"), "train")
    (path, *_) = sorted((folder / "table" / "split=train").glob("*.parquet"))
    rows = pq.read_table(path, partitioning=None).slice(0, 16)
    names = rows["image_id"].to_pylist()
    batch = source_batch(names, names, rows["bytes"].to_pylist(), [""] * 16)
    (answer,) = run_local(embedding_graph(bundle), [batch])
    at = [ids.index(name) for name in names]
    np.testing.assert_allclose(answer["image_features"], features[at], rtol=1e-4, atol=1e-4)
    (located,) = run_local(graph_of(bundle), [batch])
    assert (located["problem"] == "").all()
    assert np.isfinite(located["radius_km_90"]).all()
    assert len(latlon) == len(ids)


def test_its_predictions_are_evaluated(run, capsys, tmp_path):
    folder, _ = run
    images = tmp_path / "images"
    images.mkdir()
    lines = ["id,lat,lon"]
    for path in sorted((folder / "table" / "split=test").glob("*.parquet")):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            (images / f"{row['image_id']}.jpg").write_bytes(row["bytes"])
            lines.append(f"{row['image_id']}.jpg,{row['latitude']},{row['longitude']}")
    (tmp_path / "truth.csv").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "geo_ray.cli", "geotag", str(images), "--bundle", str(folder / "bundle"),
               "--output", str(tmp_path / "answers")]  # fmt: skip
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = tmp_path / "metrics.json"
    assert (
        main(["evaluate", str(tmp_path / "answers"), "--truth", str(tmp_path / "truth.csv"), "--json", str(report)])
        == 0
    )
    found = json.loads(report.read_text())
    assert found["num_images"] == len(lines) - 1
    mine = json.loads((folder / "metrics.json").read_text())["refined"]["median_error_km"]
    assert found["by_place"]["median_error_km"] == pytest.approx(mine, rel=0.05)
    capsys.readouterr()


def test_run_again_it_does_nothing_again(run, ray_session):
    folder, _ = run
    before, said = (folder / "bundle" / "bundle.json").stat().st_mtime_ns, []
    run_recipe("smoke", folder, Place(table="", scale=Scale(threads_per_worker=1), say=said.append))
    assert sum(text.startswith("finished before") for text in said) == 2
    assert (folder / "bundle" / "bundle.json").stat().st_mtime_ns == before
