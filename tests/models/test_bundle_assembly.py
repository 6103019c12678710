"""A bundle of cells from its parts answers as the one the parts are of; parts that don't fit are named."""

import dataclasses
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.cli import main
from geo_ray.errors import BundleError, OutputError
from geo_ray.index.refine import PRESETS
from geo_ray.models.bundle import CELLS, HEAD, INDEX, open_bundle
from geo_ray.models.bundle_writing import Words, write_cells_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local
from tests.crops import jpeg_crops

WORDS = Words(description="for tests", licence="none", attribution="", provenance={})


@pytest.fixture
def parts():
    shipped = open_bundle("earth-tiny")
    return {"encoder": shipped, "cells": shipped.path(CELLS), "head": shipped.path(HEAD), "index": shipped.path(INDEX)}


def answers(bundle):
    crops = jpeg_crops(6)
    names = [str(row) for row in range(len(crops))]
    batch = source_batch(names, names, crops, [""] * len(crops))
    return next(run_local(graph_of(bundle), [batch]))


def test_parts_of_a_bundle_answer_as_it_does(parts, tmp_path):
    shipped = parts["encoder"]
    write_cells_bundle(tmp_path / "b", **parts, refinement=shipped.refinement, words=WORDS)
    bundle = open_bundle(str(tmp_path / "b"))
    assert (bundle.filed_by, bundle.partition_digest) == (shipped.filed_by, shipped.partition_digest)
    assert bundle.encoder_fingerprint == shipped.encoder_fingerprint
    assert bundle.calibration() is None
    found, wanted = answers(bundle), answers(shipped)
    for name in ("latitude", "longitude", "cell_latitude"):
        np.testing.assert_array_equal(found[name], wanted[name])
    assert np.isnan(found["radius_km_90"]).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_assembles_with_a_preset(preset, parts, tmp_path, capsys):
    output = tmp_path / "b"
    named = {name: str(path) for name, path in parts.items() if name != "encoder"}
    options = [text for name, path in named.items() for text in (f"--{name}", path)]
    assert main(["bundle", "assemble", "earth-tiny", *options, "--preset", preset, "--output", str(output)]) == 0
    assert "bundle calibrate" in capsys.readouterr().out
    bundle = open_bundle(str(output))
    assert bundle.refinement == PRESETS[preset]
    assert bundle.licence == parts["encoder"].licence
    assert np.isfinite(answers(bundle)["latitude"]).all()


def test_the_papers_presets():
    assert (PRESETS["pigeon"].num_cells, PRESETS["pigeon"].temperature) == (5, 1.6)
    assert (PRESETS["pigeotto"].num_cells, PRESETS["pigeotto"].temperature) == (40, 0.6)
    assert PRESETS["pigeon"].max_distance_km == 1000.0


def test_a_head_of_other_cells_is_named(parts, tmp_path):
    head = load_file(parts["head"])
    save_file({"weight": head["weight"][:-1], "bias": head["bias"][:-1]}, tmp_path / "fewer")
    save_file({"weight": np.full_like(head["weight"], np.nan), "bias": head["bias"]}, tmp_path / "nan")
    save_file({"bias": head["bias"]}, tmp_path / "half")
    (tmp_path / "damaged").write_bytes(b"no tensors")
    for name, why in (("fewer", "train it for them"), ("nan", "not finite"), ("half", "is no head"),
                      ("damaged", "is no head"), ("missing", "is no head")):  # fmt: skip
        with pytest.raises(BundleError, match=why):
            write_cells_bundle(tmp_path / "b", **parts | {"head": tmp_path / name}, refinement=PRESETS["pigeon"],
                               words=WORDS)  # fmt: skip
    assert not (tmp_path / "b").exists()


def test_an_index_of_other_cells_or_another_encoder_is_named(parts, tmp_path):
    partition = read_partition(parts["cells"])
    moved = dataclasses.replace(partition, centers=np.roll(partition.centers, 1, axis=0))
    write_partition(moved, tmp_path / "cells.parquet")
    other = dataclasses.replace(parts["encoder"], encoder_fingerprint="another")
    for change, why in (({"cells": tmp_path / "cells.parquet"}, "built on the cells"),
                        ({"encoder": other}, "built with encoder")):  # fmt: skip
        with pytest.raises(BundleError, match=why):
            write_cells_bundle(tmp_path / "b", **parts | change, refinement=PRESETS["pigeon"], words=WORDS)


def test_a_folder_that_holds_something_is_refused(parts, tmp_path):
    shutil.copytree(parts["index"], tmp_path / "b")
    with pytest.raises(OutputError, match="holds something"):
        write_cells_bundle(tmp_path / "b", **parts, refinement=PRESETS["pigeon"], words=WORDS)
