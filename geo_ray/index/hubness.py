"""Hubness: how near a vector lies to its nearest others, which CSLS corrects for. Shapes: n vectors, D features."""

import numpy as np
from jaxtyping import Float32

from geo_ray.index.engine import Flat, Parameters
from geo_ray.index.engines import build_engine
from geo_ray.index.features import StoredFeatures

BATCH = 1024


def hubness(
    features: StoredFeatures, num_neighbours: int = 10, parameters: Parameters | None = None, num_threads: int = 1
) -> Float32[np.ndarray, "n"]:
    """The mean cosine similarity of each vector to its nearest others: r of CSLS (Conneau et al. 2018, ICLR).

    What ``PrototypeIndex.member_hubness`` holds. By exact search, whose time grows as n^2, unless an approximate
    engine's parameters are given; all vectors are in memory as float32. A vector alone has none.
    """
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours={num_neighbours} must be at least 1")
    if len(features) < 2:
        return np.zeros(len(features), np.float32)
    vectors = features.decode()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, 1)
    engine = build_engine(parameters or Flat(), vectors, "ip", num_threads)
    means = np.zeros(len(vectors), np.float32)
    for start in range(0, len(vectors), BATCH):
        rows, distances = engine.search(vectors[start : start + BATCH], num_neighbours + 1)
        own = np.arange(start, start + len(rows))[:, None]
        others = (rows != own) & (rows >= 0)
        others &= np.cumsum(others, axis=1) <= num_neighbours
        total = np.where(others, 1 - distances, 0).sum(axis=1)
        means[start : start + BATCH] = total / np.maximum(others.sum(axis=1), 1)
    return means
