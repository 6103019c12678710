"""An index small enough to check by loops."""

import numpy as np

from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.store import PrototypeIndex

NUM_CELLS = 7  # of which 2 and 6 have no images


def example_rows(seed: int = 0, num_rows: int = 120, num_features: int = 16):
    """Features, places and cells of member images; cells 2 and 6 are left empty."""
    rng = np.random.default_rng(seed)
    cells = rng.choice([0, 1, 3, 4, 5], num_rows)
    latlon = np.stack([cells * 10.0 - 30, cells * 50.0 - 130], axis=1) + rng.normal(0, 0.3, (num_rows, 2))
    return rng.normal(size=(num_rows, num_features)).astype(np.float32), latlon, cells


def example_index(noise: str = "own", seed: int = 0) -> PrototypeIndex:
    """The index of ``example_rows``."""
    features, latlon, cells = example_rows(seed)
    return build_index(features, latlon, cells, NUM_CELLS, Clustering(noise=noise))
