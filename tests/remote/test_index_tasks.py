"""An index by Ray tasks is that of one process, and what is wrong with its inputs is counted."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.cells.labels import cells_of, nearest_centers
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.cli import main
from geo_ray.errors import BuildError, InputError, OutputError
from geo_ray.index import prototypes
from geo_ray.index.hubness import hubness
from geo_ray.index.index_folder import IndexInfo, concat, read_index
from geo_ray.index.prototypes import CLUSTERINGS, Clustering
from geo_ray.index.split import check_shards, read_split
from geo_ray.models.bundle import shipped_bundles
from geo_ray.remote import build_tasks, index_tasks, runtime
from geo_ray.remote.feature_files import read_members
from geo_ray.remote.index_tasks import IndexBuild, build_index, build_with_progress, group_edges
from tests.index.example import assert_same_index

NUM_IMAGES, NUM_FEATURES = 400, 8
NAMES = np.array([f"{number:04d}.jpg" for number in range(NUM_IMAGES)])
OWN = Clustering(noise="own")


def places(seed=0):
    """Points about thirty towns, and the antimeridian."""
    rng = np.random.default_rng(seed)
    towns = np.stack([rng.uniform(-60, 60, 30), rng.uniform(-180, 180, 30)], axis=1)
    towns[0] = 0, 180
    latlon = towns[rng.integers(0, 30, NUM_IMAGES)] + rng.normal(0, 0.2, (NUM_IMAGES, 2))
    return np.stack([latlon[:, 0], (latlon[:, 1] + 180) % 360 - 180], axis=1)


def image_features(seed=1, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(NUM_IMAGES, NUM_FEATURES)).astype(dtype)


def write_features(path, names, features, problem=None, **columns):
    """A file as embedding writes it: rows with a problem have no features."""
    problem = [""] * len(names) if problem is None else problem
    flat = pa.array(features.ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, features.shape[1], mask=pa.array([code != "" for code in problem]))
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image_id": pa.array(names), "features": lists, "problem": pa.array(problem), **columns})
    pq.write_table(table, path, row_group_size=60)


@pytest.fixture
def inputs(tmp_path):
    """Cells, a table of places, and features in three files and any order, of which every fortieth has a problem."""
    latlon, features = places(), image_features()
    write_partition(build_rectangles(latlon, CellSizes(min_size=10, max_size=40)), tmp_path / "cells.parquet")
    rows = "".join(f"{name},{lat!r},{lon!r}\n" for name, (lat, lon) in zip(NAMES, latlon.tolist(), strict=True))
    (tmp_path / "places.csv").write_text("image_id,latitude,longitude\nnever seen.jpg,1,2\n" + rows)
    for number, part in enumerate(np.array_split(np.random.default_rng(2).permutation(NUM_IMAGES), 3)):
        codes = ["undecodable" if row % 40 == 7 else "" for row in part]
        write_features(tmp_path / "features" / f"{number}.parquet", NAMES[part], features[part], codes)
    return tmp_path


def build_of(folder, output="index", **options):
    options = {"places": str(folder / "places.csv"), "clustering": OWN} | options
    return IndexBuild(
        features=(str(folder / "features"),), cells=folder / "cells.parquet", output=str(folder / output), **options
    )


def in_process(folder, filed_by=nearest_centers, features=None, **options):
    """The index of the images without a problem, in the order of the table of places, of which row 0 has no image."""
    kept = np.arange(NUM_IMAGES) % 40 != 7
    partition = read_partition(folder / "cells.parquet")
    latlon, features = places()[kept], (image_features() if features is None else features)[kept]
    cells, ids = filed_by(latlon, partition), 1 + np.flatnonzero(kept)
    parts = []
    for cell in range(len(partition)):
        rows = np.flatnonzero(cells == cell)
        parts.append(prototypes.build_cell(features[rows], latlon[rows], ids[rows], OWN, **options))
    return concat(parts)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_same_index_as_in_one_process(ray_session, inputs, monkeypatch, num_workers):
    monkeypatch.setattr(index_tasks, "CPUS_A_TASK", 4 / num_workers)
    monkeypatch.setattr(index_tasks, "GROUPS_A_CPU", num_workers)
    monkeypatch.setattr(build_tasks, "TASKS_A_CPU", num_workers / 4)
    seen = []
    info = build_index(build_of(inputs), seen.append)
    expected = in_process(inputs)
    assert_same_index(read_index(inputs / "index"), expected)
    assert info.num_members == len(expected.member_latlon) == 390
    assert info.num_cells > 10
    steps = [(task.step, task.done, task.total) for task in seen]
    assert [step for step in steps if step[0] == "features"] == [("features", n, 9) for n in range(1, 10)]
    assert steps[-1][0] == "cells"
    assert steps[-1][1] == steps[-1][2] >= 3
    assert all(task.seconds >= 0 for task in seen)


def test_every_option_comes_through(ray_session, inputs):
    build = build_of(
        inputs, clustering=CLUSTERINGS["pigeotto"], dtype="float32", metric="ip", num_shards=3, filed_by="polygon",
        encoder_fingerprint="abc",
    )  # fmt: skip
    info = build_with_progress(build)
    split = read_split(inputs / "index")
    check_shards(split)
    assert len(split.shards) == 3
    assert (info.dtype, info.metric, info.encoder_fingerprint) == ("float32", "ip", "abc")
    assert (split.whole.dtype, split.whole.metric, split.whole.encoder_fingerprint) == ("float32", "ip", "abc")
    assert "sha256" in json.loads((inputs / "index" / "shards.json").read_text())
    kept = np.arange(NUM_IMAGES) % 40 != 7
    partition = read_partition(inputs / "cells.parquet")
    assert (info.filed_by, info.partition_digest) == ("polygon", partition.digest)
    assert (split.whole.filed_by, split.whole.partition_digest) == ("polygon", partition.digest)
    filed = cells_of(places(), partition)
    members = {
        cell: set(index.member_ids[slice(*index.cell_members[cell : cell + 2])].tolist())
        for index in map(read_index, split.folders) for cell in range(index.num_cells)
        if index.cell_offsets[cell] < index.cell_offsets[cell + 1]
    }  # fmt: skip
    for cell, ids in members.items():
        assert ids <= set((1 + np.flatnonzero(kept & (filed == cell))).tolist())
    assert sum(map(len, members.values())) == info.num_members > 100
    assert not list(inputs.glob("index.*"))  # the whole index was temporary


def test_the_command_files_members_as_the_bundle_does(ray_session, inputs, monkeypatch, capsys):
    """Of cells alone by their centres, of a bundle's cells by the bundle's rule, whatever way they are named."""
    asked = []

    def noted(build):
        asked.append((build.cells.name, build.filed_by))
        return IndexInfo(num_cells=1, num_prototypes=1, num_members=1, num_features=1, filed_by=build.filed_by)

    monkeypatch.setattr(index_tasks, "build_with_progress", noted)
    monkeypatch.setattr(runtime, "connected", lambda address: contextlib.nullcontext())
    start = ["index", "build", "--features", str(inputs / "features"), "--output", str(inputs / "out")]
    tiny = shipped_bundles()["earth-tiny"]
    by_file = (["--cells", str(folder / "cells.parquet")] for folder in (inputs, tiny))
    for more in (*by_file, ["--bundle", "earth-tiny"], ["--bundle", "earth-tiny", "--filed-by", "polygon"]):
        assert main([*start, *more]) == 0
    assert asked == [("cells.parquet", "center")] * 3 + [("cells.parquet", "polygon")]
    assert "filed by polygon" in capsys.readouterr().out


@pytest.mark.parametrize("num_shards", [None, 3])
def test_hubness_is_that_of_all_members(ray_session, inputs, num_shards):
    build_index(build_of(inputs, hubness=True, num_shards=num_shards))
    whole = replace(in_process(inputs), member_hubness=None)
    expected = dict(zip(whole.member_ids.tolist(), hubness(whole.member_features).tolist(), strict=True))
    folders = read_split(inputs / "index").folders if num_shards else [inputs / "index"]
    found = [read_index(folder) for folder in folders]
    assert {
        int(member): float(value)
        for index in found for member, value in zip(index.member_ids, index.member_hubness, strict=True)
    } == pytest.approx(expected, abs=1e-6)  # fmt: skip


def test_half_precision_is_read_as_it_is(ray_session, inputs):
    half = image_features(dtype=np.float16)
    for number, part in enumerate(np.array_split(np.arange(NUM_IMAGES)[::-1], 2)):
        codes = ["too_large" if row % 40 == 7 else "" for row in part]
        write_features(inputs / "features" / f"{number}.parquet", NAMES[part], half[part], codes)
    (inputs / "features" / "2.parquet").unlink()
    build_index(build_of(inputs))
    assert_same_index(read_index(inputs / "index"), in_process(inputs, features=half.astype(np.float32)))


def test_places_in_the_files_themselves(ray_session, inputs):
    latlon = places()
    write_features(inputs / "features" / "0.parquet", NAMES, image_features(), latitude=latlon[:, 0],
                   longitude=latlon[:, 1])  # fmt: skip
    for number in (1, 2):
        (inputs / "features" / f"{number}.parquet").unlink()
    build_index(build_of(inputs, places=None))
    index = read_index(inputs / "index")
    assert sorted(index.member_ids.tolist()) == list(range(NUM_IMAGES))
    np.testing.assert_array_equal(index.member_latlon, latlon[index.member_ids].astype(np.float32))


def test_an_embedding_run_says_whose_features_they_are(ray_session, inputs):
    run = inputs / "run"
    run.mkdir()
    (inputs / "features").rename(run / "predictions")
    build = IndexBuild(
        features=(str(run),),
        cells=inputs / "cells.parquet",
        output=str(inputs / "a"),
        places=str(inputs / "places.csv"),
    )
    with pytest.raises(InputError, match="unfinished"):
        build_index(build)
    (run / "_SUCCESS").touch()
    (run / "manifest.json").write_text(json.dumps({"bundle": {"encoder_fingerprint": "abc"}}))
    assert build_index(build).encoder_fingerprint == "abc"
    (run / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="names no encoder"):
        build_index(IndexBuild(**vars(build) | {"output": str(inputs / "b")}))


def test_an_index_at_a_uri(ray_session, inputs):
    build = build_of(inputs, num_shards=2)
    address = f"file://{inputs}/there"
    build_index(IndexBuild(**vars(build) | {"output": address}))
    build_index(build)
    for path in (inputs / "index").rglob("*.*"):
        assert (inputs / "there" / path.relative_to(inputs / "index")).read_bytes() == path.read_bytes()
    with pytest.raises(OutputError, match="holds files"):
        build_index(IndexBuild(**vars(build) | {"output": address}))
    with pytest.raises(OutputError, match="not an empty folder"):
        build_index(build)


def test_images_that_cannot_be_members_are_counted(ray_session, inputs):
    features = image_features()
    features[5, 0], features[77, 3], features[300, 1] = np.nan, np.inf, 1e30
    codes = [""] * NUM_IMAGES
    for number in (0, 1):
        (inputs / "features" / f"{number}.parquet").unlink()
    write_features(inputs / "features" / "2.parquet", NAMES, features, codes)
    with pytest.raises(InputError, match="3 of 400 images have no features, or some that are NaN"):
        build_index(build_of(inputs, "a"))
    names = NAMES.copy()
    names[[3, 9]] = "one.jpg", "two.jpg"
    write_features(inputs / "features" / "2.parquet", names, image_features())
    with pytest.raises(InputError, match=r"2 of 400 images have no place in .*places.csv \('one.jpg', 'two.jpg'\)"):
        build_index(build_of(inputs, "b"))
    names[[3, 9]] = NAMES[4]
    write_features(inputs / "features" / "2.parquet", names, image_features())
    with pytest.raises(InputError, match="2 of 400 images are there twice"):
        build_index(build_of(inputs, "c"))
    write_features(inputs / "features" / "2.parquet", NAMES, image_features(), ["empty"] * NUM_IMAGES)
    with pytest.raises(InputError, match="none of 400 images"):
        build_index(build_of(inputs, "d"))


def test_null_features_without_a_problem_are_counted(ray_session, inputs):
    lists = pa.array([None, *image_features()[1:].tolist()], pa.list_(pa.float32(), NUM_FEATURES))
    for number in (0, 1):
        (inputs / "features" / f"{number}.parquet").unlink()
    pq.write_table(pa.table({"image_id": NAMES, "features": lists}), inputs / "features" / "2.parquet")
    with pytest.raises(InputError, match="1 of 400 images have no features"):
        build_index(build_of(inputs))


def test_files_that_cannot_be_used_are_named(inputs):
    def says(match, places=str(inputs / "places.csv"), name="0.parquet"):
        with pytest.raises(InputError, match=match):
            read_members([str(inputs / "features")], places)

    says("lacks the columns .*latitude.* name a table of places", places=None)
    path = inputs / "features" / "0.parquet"
    write_features(path, NAMES[:10], np.zeros((10, 5), np.float32))
    says("different numbers of features .5 in .*0.parquet, 8 in .*1.parquet")
    pq.write_table(pa.table({"image_id": ["a"], "features": [[1.0, 2.0]]}), path)
    says("not fixed-size lists of floats")
    pq.write_table(pa.table({"image_id": ["a"]}), path)
    says("lacks the columns ..features")
    path.write_bytes(b"PAR1")
    says(r"0.parquet can't be read")
    for path in (inputs / "features").iterdir():
        path.unlink()
    says("holds no parquet files")
    with pytest.raises(InputError, match="does not exist"):
        read_members([str(inputs / "nothing")])
    write_features(inputs / "places.parquet", NAMES[:2], np.zeros((2, 5), np.float32), latitude=[1.0, 95.0],
                   longitude=[1.0, 2.0])  # fmt: skip
    with pytest.raises(InputError, match="correct or remove"):
        read_members([str(inputs / "places.parquet")])


def test_a_failed_task_fails_the_build_by_name(ray_session, inputs):
    for number in (0, 1):
        (inputs / "features" / f"{number}.parquet").unlink()
    write_features(inputs / "features" / "2.parquet", NAMES[:1], np.full((1, NUM_FEATURES), 1e6, np.float32))
    with pytest.raises(BuildError, match=r"^cells \d+ to \d+ \(1 images\) failed: .*don't fit float16"):
        build_index(build_of(inputs, dtype="float16"))


def test_groups_are_whole_cells_of_about_equal_size(ray_session, monkeypatch):
    monkeypatch.setattr(index_tasks, "GROUP_BYTES", 100)
    sizes = np.array([0, 60, 50, 0, 300, 10, 10, 0])
    edges = group_edges(sizes)
    assert edges[0] == 0
    assert edges[-1] == len(sizes)
    assert (np.diff(edges) > 0).all()
    groups = np.add.reduceat(sizes, edges[:-1])
    assert groups.sum() == sizes.sum()
    assert groups.max() <= 300 + 100
    assert group_edges(np.zeros(3, np.int64)).tolist() == [0, 3]


@pytest.mark.parametrize(("name", "value"), [("features", ()), ("num_shards", 0)])
def test_what_cannot_work(tmp_path, name, value):
    options = {"features": ("f",), "cells": tmp_path, "output": "o"} | {name: value}
    with pytest.raises(ValueError, match=name):
        IndexBuild(**options)
