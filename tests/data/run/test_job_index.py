"""The bulk job with an index on shard actors: the answers of the bundle's own index, also when shards die."""

import json
import logging
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from geo_ray.benchmarks.crops import IMAGES, TRUTH
from geo_ray.benchmarks.crops import write_crops as write_known
from geo_ray.cells.labels import nearest_centers
from geo_ray.cells.partition_file import read_partition
from geo_ray.data.calibrate import calibrate
from geo_ray.data.run.job import geotag
from geo_ray.data.run.plan import plan_text
from geo_ray.data.run.preparation import GeotagOptions, find_index, prepare
from geo_ray.datasets import earth
from geo_ray.errors import BundleError, InputError, OutputError
from geo_ray.evaluation.tables import read_predictions
from geo_ray.index.index_folder import read_index, write_index
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.split import split_index
from geo_ray.models.bundle import CELLS, INDEX, open_bundle
from geo_ray.remote.place import Place
from tests.crops import write_crops
from tests.data.shard_killing import kill_a_shard, once_searching, same_answers
from tests.local_answers import write_local_answers
from tests.remote.shards import written_split

LOG = logging.getLogger(__name__)
PLACE = Place(num_workers=1, batch_size=32, num_index_shards=3, num_index_replicas=1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "three"
    split_index(open_bundle("earth-tiny").path(INDEX), 3, folder)
    return folder


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    write_crops(folder, 256)  # in 16 blocks, so that there is a middle
    return folder


@pytest.fixture(scope="module")
def undisturbed(crops, tmp_path_factory):
    """The answers of a search of the bundle's own index."""
    return write_local_answers(crops, tmp_path_factory.mktemp("own"))


def job_of(crops, shards, output, **options):
    return prepare(GeotagOptions(inputs=(str(crops),), output=str(output), index=str(shards), **options))


def test_shards_give_the_answers_of_the_bundles_own_index(crops, shards, undisturbed, tmp_path, ray_session):
    job = job_of(crops, shards, tmp_path / "out")
    assert job.num_index_shards == 3
    geotag(job, PLACE)
    assert same_answers(tmp_path / "out", undisturbed)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_shard_that_dies_in_mid_job_changes_no_answer(
    num_replicas, crops, shards, undisturbed, tmp_path, ray_session
):
    job = job_of(crops, shards, tmp_path / "out")
    place = replace(PLACE, num_index_replicas=num_replicas, cpus_per_index_shard=0.25)
    killed = []
    watch = threading.Thread(target=once_searching, args=(lambda: killed.append(kill_a_shard()),))
    watch.start()
    geotag(job, place)
    watch.join()
    assert len(killed) == 1
    assert same_answers(tmp_path / "out", undisturbed)


def test_a_node_that_dies_with_two_shards_changes_no_answer(crops, shards, undisturbed, tmp_path):
    """In a process of its own, as a cluster of several nodes can't be started beside the session's Ray."""
    command = [sys.executable, "-m", "tests.data.shard_killing", str(crops), str(shards), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.strip().splitlines()[-1])
    LOG.warning("a node with %s shards was removed; the job took %.1f s", report["lost"], report["seconds"])
    assert report["lost"] >= 2
    assert same_answers(tmp_path / "out", undisturbed)


def test_another_index_is_another_run(crops, shards, tmp_path):
    prepare(GeotagOptions(inputs=(str(crops),), output=str(tmp_path)))
    with pytest.raises(OutputError, match=r"another run's results .index '' there, '[0-9a-f]{16}' asked"):
        prepare(GeotagOptions(inputs=(str(crops),), output=str(tmp_path), index=str(shards), resume=True))


def test_what_is_stated_holds_for_the_index_that_was_calibrated_with(tmp_path, ray_session):
    """Another index states nothing; calibrated with it, the bundle states radii with it, and nothing with its own."""
    rng = np.random.default_rng(3)
    latlon = earth.locations()[rng.choice(len(earth.locations()), 60, replace=False)]
    write_known(tmp_path / "known", latlon, rng)
    images, truth = str(tmp_path / "known" / IMAGES), str(tmp_path / "known" / TRUTH)
    bundle = open_bundle("earth-tiny")
    features = rng.normal(size=(3000, 128)).astype(np.float32)
    places = earth.locations()[rng.choice(len(earth.locations()), 3000, replace=False)]
    partition = read_partition(bundle.path(CELLS))
    other = build_index(features / np.linalg.norm(features, axis=1, keepdims=True), places,
                        nearest_centers(places, partition), len(partition), Clustering(noise="nearest"),
                        encoder_fingerprint=bundle.encoder_fingerprint)  # fmt: skip
    write_index(replace(other, filed_by=bundle.filed_by, partition_digest=bundle.partition_digest), tmp_path / "index")
    split_index(tmp_path / "index", 2, tmp_path / "shards")
    said = calibrate("earth-tiny", (images,), truth, tmp_path / "b", PLACE, index=str(tmp_path / "shards"))
    assert "60 images matched" in said
    assert open_bundle(str(tmp_path / "b")).calibration().index == "3000 members, " + said_of(other)
    for folder, index, states in (("b", "shards", True), ("b", "index", True), ("b", None, False)):
        searched = {} if index is None else {"index": str(tmp_path / index)}
        output = tmp_path / f"with {index}"
        options = GeotagOptions(inputs=(images,), output=str(output), bundle=str(tmp_path / folder), **searched)
        job = prepare(options)
        assert ("no radii" in plan_text(job, PLACE)) == (not states and index is not None)
        geotag(job, replace(PLACE, num_index_shards=job.num_index_shards))
        radii = read_predictions(output).numbers("radius_km_90")
        assert np.isfinite(radii).any() == states
    options = GeotagOptions(inputs=(images,), output=str(tmp_path / "o"), index=str(tmp_path / "shards"))
    assert "not calibrated with this index" in plan_text(prepare(options), PLACE)


def said_of(index):
    return f"{len(index.prototype_latlon)} prototypes of 128 in {index.member_features.dtype}, by {index.metric}"


def test_an_index_of_something_else_is_named_before_any_work(crops, shards, tmp_path):
    bundle = open_bundle("earth-tiny")
    with pytest.raises(BundleError, match="num_features=16 is not 128"):
        job_of(crops, written_split(tmp_path, 2), tmp_path / "out")
    other = replace(read_index(bundle.path(INDEX)), encoder_fingerprint="another")
    write_index(other, tmp_path / "other")
    with pytest.raises(BundleError, match="built with encoder another, not"):
        job_of(crops, tmp_path / "other", tmp_path / "out")
    own = read_index(bundle.path(INDEX))
    write_index(replace(own, filed_by="polygon"), tmp_path / "polygon")
    with pytest.raises(BundleError, match="filed by polygon, this bundle's head ranks cells by center"):
        job_of(crops, tmp_path / "polygon", tmp_path / "out")
    write_index(replace(own, partition_digest="0123"), tmp_path / "cells")
    with pytest.raises(BundleError, match=f"cells 0123, not {bundle.partition_digest}"):
        job_of(crops, tmp_path / "cells", tmp_path / "out")
    with pytest.raises(BundleError, match=r"shards\.json"):
        job_of(crops, tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_searches_no_index(shards):
    bundle = open_bundle("earth-tiny")
    with pytest.raises(InputError, match="of kind gallery, which searches no index"):
        find_index(str(shards), replace(bundle, kind="gallery"))
