"""Exact search within blocks against sorting by definition, where float32 can't decide, and in any batch."""

import numpy as np
import pytest

from geo_ray.errors import InputError
from geo_ray.index import nearest as module
from geo_ray.index.features import encode_features
from geo_ray.index.nearest import BlockSearch
from geo_ray.index.threads import Workers
from tests.index.example import slow_distances

MEASURES = ("l2", "ip", "cosine", "csls")
EDGES = np.array([0, 3, 3, 40, 41, 100])  # of blocks, one of them empty


def stored(dtype="float32", seed=0, num_features=9):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(100, num_features)).astype(np.float32)
    features[50:70] = features[30]  # equal distances
    features[99] = 0
    return encode_features(features, dtype)


def search(features, measure="l2", ids=None):
    hubness = (np.arange(len(features)) % 4 / 4).astype(np.float32)
    return BlockSearch(features, measure, ids, hubness)


def asked(num_images=12, seed=1, num_features=9):
    """Queries, some of them members, and a pair for each image and block."""
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(num_images, num_features)).astype(np.float32)
    images, blocks = np.divmod(np.arange(num_images * 5), 5)
    return queries, images, np.stack([EDGES[blocks], EDGES[blocks + 1]], axis=1)


def by_definition(features, measure, query, rows, num_rows, ids):
    hubness = (np.arange(len(features)) % 4 / 4).astype(np.float32)
    vectors = features.decode()
    with np.errstate(invalid="ignore"):
        distances = slow_distances(query, vectors[rows], measure, hubness[rows])
    distances = np.where(np.isnan(distances), 1 + 0.5 * hubness[rows] * (measure == "csls"), distances)  # of no length
    order = np.lexsort((ids[rows], distances.round(12)))[:num_rows]
    return rows[order], distances[order]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("num_rows", [1, 4, 60])
def test_fast_is_by_definition(measure, dtype, num_rows):
    features, (queries, images, blocks) = stored(dtype), asked()
    queries[0] = features.decode()[30]
    ids = np.random.default_rng(3).permutation(len(features))
    rows, distances = search(features, measure, ids).nearest(queries, images, blocks, num_rows, Workers(1))
    for pair, (image, block) in enumerate(zip(images, blocks, strict=True)):
        own = np.arange(*block)
        best, apart = by_definition(features, measure, queries[image], own, num_rows, ids)
        assert rows[pair, : len(best)].tolist() == best.tolist()
        np.testing.assert_allclose(distances[pair, : len(best)], apart, rtol=1e-9, atol=1e-9)
        assert (rows[pair, len(best) :] == -1).all()
        assert np.isinf(distances[pair, len(best) :]).all()


@pytest.mark.parametrize("num_rows", [1, 5])
def test_within_narrows_a_block(num_rows):
    features, (queries, images, blocks) = stored(), asked()
    rng = np.random.default_rng(4)
    within = np.sort(rng.integers(0, 101, (len(blocks), 2)), axis=1)
    rows, _ = search(features).nearest(queries, images, blocks, num_rows, Workers(1), within)
    for pair, image in enumerate(images):
        own = np.arange(max(blocks[pair, 0], within[pair, 0]), min(blocks[pair, 1], within[pair, 1]))
        best, _ = by_definition(features, "l2", queries[image], own, num_rows, np.arange(100))
        assert rows[pair][rows[pair] >= 0].tolist() == best.tolist()


@pytest.mark.parametrize("measure", ["l2", "ip", "cosine"])
def test_what_float32_cannot_decide_is_decided(measure):
    """Vectors that are long and all but the same."""
    rng = np.random.default_rng(5)
    features = (1000 + rng.normal(0, 1e-3, (200, 64))).astype(np.float32)
    queries = (1000 + rng.normal(0, 1e-3, (20, 64))).astype(np.float32)
    blocks = np.tile([0, 200], (20, 1))
    rows, _ = BlockSearch(encode_features(features, "float32"), measure).nearest(
        queries, np.arange(20), blocks, 3, Workers(1)
    )
    exact = [np.argsort(slow_distances(query, features, measure), kind="stable")[:3].tolist() for query in queries]
    assert rows.tolist() == exact
    lengths = (features**2).sum(axis=1)
    plain = {"l2": lengths[None] / 2 - queries @ features.T, "ip": -queries @ features.T}
    plain["cosine"] = plain["ip"] / np.sqrt(lengths)
    assert (plain[measure].argmin(axis=1) != rows[:, 0]).any()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_batch_order_and_threads_change_nothing(measure, dtype):
    features, (queries, images, blocks) = stored(dtype), asked(40)
    engine = search(features, measure)
    whole = engine.nearest(queries, images, blocks, 3, Workers(1))
    pairs = np.random.default_rng(6).permutation(len(images))
    for workers in (Workers(1), Workers(3)):
        for part in (pairs, pairs[:7], pairs[-1:]):
            found = engine.nearest(queries, images[part], blocks[part], 3, workers)
            for one, other in zip(found, whole, strict=True):
                np.testing.assert_array_equal(one, other[part])


def test_sizes_of_working_memory_change_nothing(monkeypatch):
    features, (queries, images, blocks) = stored("int8"), asked(30)
    whole = search(features).nearest(queries, images, blocks, 3, Workers(1))
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    monkeypatch.setattr(module, "MATRIX_SIZE", 100)
    monkeypatch.setattr(module, "LISTED_SIZE", 10)
    for one, other in zip(search(features).nearest(queries, images, blocks, 3, Workers(1)), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_pairs_and_no_images():
    features, (queries, images, blocks) = stored(), asked()
    for part in (slice(0, 0), np.flatnonzero(blocks[:, 0] == blocks[:, 1])):
        rows, distances = search(features).nearest(queries, images[part], blocks[part], 2, Workers(2))
        assert rows.shape == (len(images[part]), 2)
        assert (rows == -1).all()
        assert np.isinf(distances).all()


def test_queries_that_cannot_be_searched_are_refused():
    features, (queries, images, blocks) = stored(), asked()
    with pytest.raises(ValueError, match="images have 5 features, the index has 9"):
        search(features).nearest(queries[:, :5].copy(), images, blocks, 1, Workers(1))
    queries[3, 2] = np.nan
    with pytest.raises(InputError, match="1 of 12 images' feature vectors"):
        search(features).nearest(queries, images, blocks, 1, Workers(1))
    with pytest.raises(ValueError, match="hubness"):
        BlockSearch(features, "csls")
