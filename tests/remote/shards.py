"""An index in shards small enough to start in a second, and searchers of it that must agree."""

import time

import numpy as np

from geo_ray.index.index_folder import read_index, write_index
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.shard import Shard
from geo_ray.index.split import split_index
from geo_ray.remote.shard_actors import ShardOptions
from geo_ray.remote.shard_client import Patience

NUM_CELLS, NUM_FEATURES, NUM_MEMBERS = 23, 16, 3
LIGHT = ShardOptions(num_cpus=0.1, drain_s=0.3, patience=Patience(hedge_s=1.0, patience_s=90.0))


def written_split(folder, num_shards, seed=0, metric="l2", encoder_fingerprint=""):
    """The folder of an index of 600 members in shards, split from ``whole`` beside it."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, NUM_CELLS - 3, 600)  # three cells are empty
    latlon = np.stack([cells * 7.0 - 75, cells * 15.0 - 170], axis=1) + rng.normal(0, 0.3, (600, 2))
    features = rng.integers(-2, 3, (600, NUM_FEATURES)).astype(np.float32)  # of which many are equally near
    index = build_index(
        features, latlon, cells, NUM_CELLS, Clustering(noise="own"), "float32", metric, encoder_fingerprint
    )
    write_index(index, folder / "whole")
    split_index(folder / "whole", num_shards, folder / f"{num_shards}")
    return folder / f"{num_shards}"


def batches(number, size=20, num_candidates=5, seed=3):
    """Cells and features of batches of images; a tenth of the cells are none."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        cells = np.stack([rng.permutation(NUM_CELLS)[:num_candidates] for _ in range(size)])
        cells[rng.random(cells.shape) < 0.1] = -1
        yield cells, rng.integers(-2, 3, (size, NUM_FEATURES)).astype(np.float32)


def whole_shard(folder):
    """One shard of everything, in this process."""
    return Shard(read_index(folder.parent / "whole"))


def same(found, expected):
    """Whether two answers are equal in all they hold."""
    return all(np.array_equal(getattr(found, name), values) for name, values in vars(expected).items())


def answered(searcher, expected, cells, features):
    """Seconds that a batch waits for an answer, which must be the expected searcher's."""
    start = time.monotonic()
    found = searcher.search(cells, features, NUM_MEMBERS, "cell")
    waited = time.monotonic() - start
    assert same(found, expected.search(cells, features, NUM_MEMBERS, "cell"))
    return waited


class Search:
    """A worker of Ray Data that asks shard actors."""

    def __init__(self, searcher):
        self._searcher = searcher

    def __call__(self, batch):
        found = self._searcher.search(batch["cells"], batch["features"], NUM_MEMBERS, "cell")
        return {"row": batch["row"], "distance": found.member_distance}
