"""Building prototypes: clusters of places inside each cell (PIGEON, section 3.4; reference: prototype.py)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy.spatial import cKDTree

from geo_ray.cells.clusters import optics_clusters
from geo_ray.geo.sphere import check_latlon, spherical_mean, unit_vectors
from geo_ray.index.features import Dtype, encode_features
from geo_ray.index.index_folder import Metric, PrototypeIndex, concat


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """OPTICS parameters; the papers' are ``CLUSTERINGS``.

    ``noise`` says what becomes of points in no cluster: ``drop``, as the paper, ``own``, a prototype each, or
    ``nearest``, joined to the cluster of the nearest point. A third of photo locations are noise, and in thin regions
    they are all there is.

    OPTICS takes memory as n and time as n^2, 10 ns a pair. A cell of more than ``max_points`` is halved across its
    longest extent until none of its pieces has more, and each piece is clustered by itself: time then grows as n, and
    a cluster that lies on a cut becomes two.
    """

    min_samples: int = 3
    xi: float = 0.15
    noise: Literal["drop", "own", "nearest"] = "drop"
    max_points: int = 20_000

    def __post_init__(self) -> None:
        if self.min_samples < 2 or not 0 < self.xi < 1:
            raise ValueError(f"min_samples={self.min_samples} must be at least 2, xi={self.xi} between 0 and 1")
        if self.noise not in ("drop", "own", "nearest"):
            raise ValueError(f"noise={self.noise!r} must be 'drop', 'own' or 'nearest'")
        if self.max_points < 2 * self.min_samples:
            raise ValueError(f"max_points={self.max_points} must be at least twice min_samples={self.min_samples}")


# PIGEON, table 6; its prototype.py:35 asks for 100 samples in PIGEOTTO's cells.
CLUSTERINGS = {
    "pigeon": Clustering(min_samples=3, xi=0.15),
    "pigeotto": Clustering(min_samples=10, xi=0.1),
    "pigeotto-code": Clustering(min_samples=100, xi=0.1),
}


def cluster_places(latlon: Float64[np.ndarray, "n 2"], clustering: Clustering) -> Int[np.ndarray, "n"]:
    """The cluster of each point of one cell, from 0, or -1 for noise that is dropped.

    A cell with fewer than ``min_samples`` points is one cluster.
    """
    if len(latlon) < clustering.min_samples:
        return np.zeros(len(latlon), np.int64)
    vectors = unit_vectors(latlon)
    labels = np.full(len(latlon), -1, np.int64)
    for piece in _pieces(vectors, clustering.max_points):
        found = optics_clusters(latlon[piece], clustering.min_samples, clustering.xi)
        labels[piece] = np.where(found < 0, -1, found + labels.max() + 1)
    return _place_noise(labels, vectors, clustering)


def _pieces(vectors: Float64[np.ndarray, "n 3"], max_points: int) -> list[Int[np.ndarray, "m"]]:
    """The rows in pieces of at most so many, halved at the median of the longest extent."""
    waiting, pieces = [np.arange(len(vectors))], []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= max_points:
            pieces.append(rows)
            continue
        axis = int(np.ptp(vectors[rows], axis=0).argmax())
        order = rows[np.argsort(vectors[rows, axis], kind="stable")]
        waiting += [np.sort(half) for half in np.array_split(order, 2)[::-1]]
    return pieces


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


def build_cell(
    features: Float[np.ndarray, "n D"],
    latlon: Float64[np.ndarray, "n 2"],
    ids: Int[np.ndarray, "n"],
    clustering: Clustering,
    dtype: Dtype = "int8",
    metric: Metric = "l2",
    encoder_fingerprint: str = "",
) -> PrototypeIndex:
    """The index of one cell from its member images, of which there may be none.

    A prototype is its members' mean feature at their spherical mean. ``InputError`` where features aren't finite.
    """
    labels = cluster_places(latlon, clustering)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels + 1)[1:]  # without the noise
    order = order[len(labels) - counts.sum() :]
    clusters = np.split(order, np.cumsum(counts)[:-1]) if len(counts) else []
    stored = encode_features(features[order], dtype)  # before the means, which would hide which images are not finite
    means = [features[rows].mean(axis=0, dtype=np.float32) for rows in clusters]
    return PrototypeIndex(
        cell_offsets=np.array([0, len(clusters)]),
        prototype_features=encode_features(_stack(means, features.shape[1]), dtype),
        prototype_latlon=_stack([spherical_mean(latlon[rows]) for rows in clusters], 2),
        member_offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        member_features=stored,
        member_latlon=latlon[order].astype(np.float32),
        member_ids=ids[order].astype(np.int64),
        metric=metric,
        encoder_fingerprint=encoder_fingerprint,
    )


def build_cells(
    features: Float[np.ndarray, "n D"],
    latlon: Float64[np.ndarray, "n 2"],
    cells: Int[np.ndarray, "n"],
    num_cells: int,
    clustering: Clustering,
    dtype: Dtype = "int8",
    metric: Metric = "l2",
    encoder_fingerprint: str = "",
) -> Iterator[PrototypeIndex]:
    """The index of each cell, in order, for ``store.write_parts``; ids are rows.

    ``features`` may be memory-mapped: those of one cell are in memory at a time.
    """
    check_latlon(latlon)
    if len(cells) and not 0 <= cells.min() <= cells.max() < num_cells:
        raise ValueError(f"cells from {cells.min()} to {cells.max()} don't fit num_cells={num_cells}")
    order = np.argsort(cells, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(cells, minlength=num_cells))[:-1]):
        yield build_cell(features[rows], latlon[rows], rows, clustering, dtype, metric, encoder_fingerprint)


def build_index(
    features: Float32[np.ndarray, "n D"],
    latlon: Float64[np.ndarray, "n 2"],
    cells: Int[np.ndarray, "n"],
    num_cells: int,
    clustering: Clustering,
    dtype: Dtype = "int8",
    metric: Metric = "l2",
    encoder_fingerprint: str = "",
) -> PrototypeIndex:
    """The index of these member images, in memory; see ``build_cell``."""
    return concat(build_cells(features, latlon, cells, num_cells, clustering, dtype, metric, encoder_fingerprint))


def _stack(rows: Iterable[np.ndarray], width: int) -> Float32[np.ndarray, "P w"]:
    """The rows one above the other; none is a table of this width without rows."""
    return np.array(list(rows), np.float32).reshape(-1, width)
