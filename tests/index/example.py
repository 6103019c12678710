"""Indexes small enough to check by loops, and one that isn't but whose answer is known."""

import numpy as np

from geo_ray.index.features import encode_features
from geo_ray.index.index_folder import PrototypeIndex
from geo_ray.index.prototypes import Clustering, build_index

NUM_CELLS = 7  # of which 2 and 6 have no images


def example_rows(seed: int = 0, num_rows: int = 120, num_features: int = 16):
    """Features, places and cells of member images; cells 2 and 6 are left empty."""
    rng = np.random.default_rng(seed)
    cells = rng.choice([0, 1, 3, 4, 5], num_rows)
    latlon = np.stack([cells * 10.0 - 30, cells * 50.0 - 130], axis=1) + rng.normal(0, 0.3, (num_rows, 2))
    return rng.normal(size=(num_rows, num_features)).astype(np.float32), latlon, cells


def example_index(noise: str = "own", seed: int = 0, dtype="int8", metric="l2") -> PrototypeIndex:
    """The index of ``example_rows``."""
    features, latlon, cells = example_rows(seed)
    return build_index(features, latlon, cells, NUM_CELLS, Clustering(noise=noise), dtype, metric)


def tied_index(num_rows=50_000, num_features=256, num_cells=60, dtype="float32", metric="l2", seed=0) -> PrototypeIndex:
    """Members of few distinct small integers, a third of them doubles, in cells of very unequal size, some empty.

    Their ids are shuffled, so that equal distances are told apart neither by row nor by place.
    """
    rng = np.random.default_rng(seed)
    features = rng.integers(-1, 2, (num_rows, num_features)).astype(np.float32)
    features[rng.random(num_rows) < 0.3] = features[0]
    counts = rng.multinomial(num_rows, 1 / np.arange(1, num_cells + 1) / (1 / np.arange(1, num_cells + 1)).sum())
    counts[0], counts[4] = counts[0] + counts[4], 0
    sizes = [np.diff([*range(0, count, 20), count]) for count in counts]  # prototypes of twenty
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    prototypes = np.add.reduceat(features, offsets[:-1]) / np.diff(offsets)[:, None]
    places = rng.uniform(-80, 80, (num_cells, 2)).repeat([len(size) for size in sizes], axis=0)
    return PrototypeIndex(
        cell_offsets=np.concatenate([[0], np.cumsum([len(size) for size in sizes])]),
        prototype_features=encode_features(np.round(prototypes * 4).astype(np.float32), dtype),
        prototype_latlon=places.astype(np.float32),
        member_offsets=offsets,
        member_features=encode_features(features, dtype),
        member_latlon=rng.uniform(-80, 80, (num_rows, 2)).astype(np.float32),
        member_ids=rng.permutation(num_rows),
        member_hubness=rng.integers(0, 3, num_rows).astype(np.float32) / 4,
        metric=metric,
    )


def slow_distances(query, vectors, measure, hubness=None):
    """Distances in float64, by their definitions."""
    x, y = query.astype(np.float64), vectors.astype(np.float64)
    if measure == "l2":
        return np.sqrt(((y - x) ** 2).sum(axis=1))
    similarity = y @ x
    if measure != "ip":
        similarity = similarity / (np.linalg.norm(x) * np.linalg.norm(y, axis=1))
    return 1 - similarity + (0.5 * hubness if measure == "csls" else 0)


def assert_same_index(a: PrototypeIndex, b: PrototypeIndex):
    """Equal in all that is stored."""
    for name in ("cell_offsets", "prototype_latlon", "member_offsets", "member_latlon", "member_ids", "member_hubness"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("prototype_features", "member_features"):
        stored, other = getattr(a, name), getattr(b, name)
        assert stored.dtype == other.dtype
        np.testing.assert_array_equal(stored.decode(), other.decode())
        np.testing.assert_array_equal(stored.squared_norms, other.squared_norms)
    assert (a.metric, a.encoder_fingerprint) == (b.metric, b.encoder_fingerprint)
