"""Hubness against its definition."""

import numpy as np
import pytest

from geo_ray.index import hubness as module
from geo_ray.index.engines import HNSW
from geo_ray.index.features import encode_features
from geo_ray.index.hubness import hubness


def test_hubness_is_the_mean_similarity_of_the_nearest_others(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 7)
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    features[10:14] = features[3]  # doubles are others
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    stored = encode_features(features, "float32")
    for k in (1, 5):
        expected = -np.sort(-similarity, axis=1)[:, :k].mean(axis=1)
        np.testing.assert_allclose(hubness(stored, k), expected, atol=1e-6)
        np.testing.assert_allclose(hubness(stored, k, HNSW(), num_threads=2), expected, atol=1e-5)


def test_few_vectors_and_none():
    for n, expected in ((0, []), (1, [0.0]), (2, [1.0, 1.0])):
        assert hubness(encode_features(np.ones((n, 3), np.float32), "float32")).tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="num_neighbours=0"):
        hubness(encode_features(np.ones((2, 3), np.float32)), 0)
