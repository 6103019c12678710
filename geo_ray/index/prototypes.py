"""Building prototypes: clusters of places inside each cell (PIGEON, section 3.4; reference: prototype.py)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int
from scipy.spatial import cKDTree

from geo_ray.cells.clusters import optics_clusters
from geo_ray.geo.sphere import spherical_mean, unit_vectors
from geo_ray.index.store import PrototypeIndex, encode_features


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """OPTICS parameters. PIGEON: (3, 0.15). PIGEOTTO: (10, 0.1) in the paper, (100, 0.1) in its code.

    ``noise`` says what becomes of points in no cluster: ``drop``, as the paper, ``own``, a prototype each, or
    ``nearest``, joined to the cluster of the nearest point. A third of photo locations are noise, and in thin regions
    they are all there is.
    """

    min_samples: int = 3
    xi: float = 0.15
    noise: Literal["drop", "own", "nearest"] = "drop"

    def __post_init__(self) -> None:
        if self.min_samples < 2 or not 0 < self.xi < 1:
            raise ValueError(f"min_samples={self.min_samples} must be at least 2, xi={self.xi} between 0 and 1")
        if self.noise not in ("drop", "own", "nearest"):
            raise ValueError(f"noise={self.noise!r} must be 'drop', 'own' or 'nearest'")


def cluster_places(latlon: Float64[np.ndarray, "n 2"], clustering: Clustering) -> Int[np.ndarray, "n"]:
    """The cluster of each point of one cell, from 0, or -1 for noise that is dropped.

    A cell with fewer than ``min_samples`` points is one cluster.
    """
    if len(latlon) < clustering.min_samples:
        return np.zeros(len(latlon), np.int64)
    labels = optics_clusters(latlon, clustering.min_samples, clustering.xi)
    return _place_noise(labels, unit_vectors(latlon), clustering)


def _place_noise(
    labels: Int[np.ndarray, "n"], vectors: Float64[np.ndarray, "n 3"], clustering: Clustering
) -> Int[np.ndarray, "n"]:
    alone = labels == -1
    if clustering.noise == "own":
        labels[alone] = labels.max(initial=-1) + 1 + np.arange(alone.sum())
    elif clustering.noise == "nearest" and alone.all():
        labels[:] = 0
    elif clustering.noise == "nearest":
        labels[alone] = labels[~alone][cKDTree(vectors[~alone]).query(vectors[alone])[1]]
    return labels


def build_index(
    features: Float32[np.ndarray, "n D"],
    latlon: Float64[np.ndarray, "n 2"],
    cells: Int[np.ndarray, "n"],
    num_cells: int,
    clustering: Clustering,
) -> PrototypeIndex:
    """The index of these member images: a prototype is its members' mean feature at their spherical mean."""
    rows: list[np.ndarray] = []
    cell_of: list[int] = []
    by_cell = np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells, minlength=num_cells))[:-1])
    for cell, members in enumerate(by_cell):
        if len(members) == 0:
            continue
        labels = cluster_places(latlon[members], clustering)
        clusters = [members[labels == label] for label in range(labels.max(initial=-1) + 1)]
        rows += clusters
        cell_of += [cell] * len(clusters)
    order = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return PrototypeIndex(
        cell_offsets=np.concatenate([[0], np.cumsum(np.bincount(np.array(cell_of, np.int64), minlength=num_cells))]),
        prototype_features=encode_features(_stack([features[r].mean(axis=0) for r in rows], features.shape[1])),
        prototype_latlon=_stack([spherical_mean(latlon[r]) for r in rows], 2),
        member_offsets=np.concatenate([[0], np.cumsum([len(r) for r in rows], dtype=np.int64)]),
        member_features=encode_features(features[order]),
        member_latlon=latlon[order].astype(np.float32),
    )


def _stack(rows: list[np.ndarray], width: int) -> Float32[np.ndarray, "P w"]:
    """The rows one above the other; none is a table of this width without rows."""
    return np.array(rows, np.float32).reshape(-1, width)
