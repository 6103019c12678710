"""Gallery places, and the way from a recipe to a bundle that answers, with next to no training."""

import dataclasses
import json
import subprocess

import numpy as np
from scipy.spatial import cKDTree

from geo_ray.datasets.splits import splits
from geo_ray.geo.sphere import EARTH_RADIUS_KM, pairwise_km, unit_vectors
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local
from geo_ray.train.config import TrainConfig
from geo_ray.train.gallery import gallery_places, thin
from geo_ray.train.places import train_locations
from tests.crops import jpeg_crops
from tests.source_tree import environment

SETTINGS = {
    "num_steps": 2,
    "places_per_step": 8,
    "log_every": 1,
    "min_cell_size": 600,
    "max_cell_size": 1200,
    "gallery_apart_km": 300.0,
    "gallery_reach_km": 0.0,
    "gallery_step_km": 300.0,
}
CONFIG = TrainConfig(**SETTINGS)


def test_thin_keeps_one_place_a_square_and_drops_none_that_is_alone():
    rng = np.random.default_rng(0)
    latlon = np.stack([rng.uniform(-85, 85, 3000), rng.uniform(-180, 180, 3000)], axis=1)
    kept = latlon[thin(latlon, 400.0)]
    assert len(kept) < len(latlon)
    assert pairwise_km(latlon, kept).min(axis=1).max() < 400 * 1.5


def test_thin_of_equal_places_is_one():
    assert thin(np.tile([[60.0, 179.99]], (5, 1)), 4.0).tolist() == [0]


def test_no_gallery_place_is_in_a_held_out_block_or_far_from_a_photo():
    config = TrainConfig(gallery_apart_km=200.0, gallery_step_km=100.0, gallery_reach_km=100.0)
    places = gallery_places(config)
    assert (splits(places, config.split_seed) == "train").all()
    photos = train_locations(config, "train")
    chord, _ = cKDTree(unit_vectors(photos)).query(unit_vectors(places))
    assert (EARTH_RADIUS_KM * chord).max() <= 100 * np.sqrt(2)
    assert (chord > 0).any()  # some are translated


TRAIN = """
import ray, sys
from pathlib import Path
from geo_ray.cells.partition_file import write_partition
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.train.assemble import assemble
from geo_ray.train.config import TrainConfig
from geo_ray.train.crop_runs import train
from geo_ray.train.crop_task import CELLS
from geo_ray.train.places import train_locations
config, output = TrainConfig(**{settings}), Path(sys.argv[1])
rectangles = build_rectangles(train_locations(config, "train"), config.cell_sizes)  # semantic cells take a minute
write_partition(rectangles, output / CELLS)
ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
encoder = EncoderSpec(
    architecture=config.tower, image_size=config.image_size, num_features=config.num_features, micro_batch=8
)
weights, cells = train(config, output)
assemble(config, weights, cells, encoder, output / "bundle")
"""


def test_recipe_to_bundle_from_a_source_tree(tmp_path, source_tree_python):
    script = TRAIN.format(settings=SETTINGS)
    run = subprocess.run(
        [source_tree_python, "-c", script, tmp_path], env=environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    progress = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in progress] == [1, 2]
    assert all(np.isfinite(line["total"]) for line in progress)
    bundle = open_bundle(str(tmp_path / "bundle"))
    crops = jpeg_crops(6)
    names = [str(number) for number in range(6)]
    (answer,) = run_local(graph_of(bundle), [source_batch(names, names, crops, [""] * 6)])
    assert (answer["problem"] == "").all()
    assert np.isfinite(answer["latitude"]).all()
    assert (answer["bundle_fingerprint"] == bundle.fingerprint).all()
    provenance = json.loads(bundle.path("bundle.json").read_text())["provenance"]
    assert provenance["config"] == json.loads(json.dumps(dataclasses.asdict(CONFIG)))
