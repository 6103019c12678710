"""Random features in the real cells' proportions, for benchmarks. Shapes: n members, N queries, K cells, D features."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64
from scipy.spatial import cKDTree

from geo_ray.cells.partition_file import read_partition
from geo_ray.geo.sphere import unit_vectors
from geo_ray.index.features import Dtype, encode_features
from geo_ray.index.index_folder import Metric, PrototypeIndex, read_index

CELL_SPREAD, PROTOTYPE_SPREAD, MEMBER_SPREAD = 1.0, 1.0, 0.7  # standard deviations of a component at each level
MEMBERS_A_PROTOTYPE = 15  # as in earth-tiny


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Members are drawn about prototypes, prototypes about their cell's centre, centres about one mean: all Gaussian.

    Then they are scaled to length one. Cells have the places of the bundle earth-tiny's and its counts in proportion.
    Where ``num_cells`` are more, those are repeated, a little apart; 0 are as many as it has.
    """

    num_vectors: int = 500_000
    num_features: int = 512
    num_cells: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_vectors", 1), ("num_features", 1), ("num_cells", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")


def cell_counts(mixture: Mixture) -> Int64[np.ndarray, "C"]:
    """How many members each cell has."""
    real = np.diff(read_index(_bundle() / "index").cell_members)
    edges = np.cumsum(real[np.arange(mixture.num_cells or len(real)) % len(real)])
    return np.diff(edges * mixture.num_vectors // edges[-1], prepend=0)


def cell_centers(mixture: Mixture) -> Float64[np.ndarray, "C 2"]:
    """Where each cell is, in degrees."""
    real = _real_centers()
    numbers = np.arange(mixture.num_cells or len(real))
    centers, again = real[numbers % len(real)], numbers[:, None] >= len(real)
    moved = centers + again * np.random.default_rng(mixture.seed).uniform(-0.5, 0.5, centers.shape)
    return np.clip(moved, [-90, -180], [90, 180])


def mixture_cells(mixture: Mixture, dtype: Dtype, metric: Metric = "l2") -> Iterator[PrototypeIndex]:
    """The index, cell by cell, for ``store.write_parts``: the same members for every dtype."""
    rng = np.random.default_rng(mixture.seed)
    shape = mixture.num_features
    mean = rng.standard_normal(shape, np.float32)
    for count, center in zip(cell_counts(mixture).tolist(), cell_centers(mixture), strict=True):
        of = np.sort(rng.integers(0, max(1, count // MEMBERS_A_PROTOTYPE), count))
        counts = np.unique(of, return_counts=True)[1]
        about = mean + CELL_SPREAD * rng.standard_normal(shape, np.float32)
        prototypes = about + PROTOTYPE_SPREAD * rng.standard_normal((len(counts), shape), np.float32)
        members = np.repeat(prototypes, counts, axis=0)
        members = _unit(members + MEMBER_SPREAD * rng.standard_normal((count, shape), np.float32))
        places = np.broadcast_to(center.astype(np.float32), (count, 2))
        yield PrototypeIndex(
            cell_offsets=np.array([0, len(counts)]),
            prototype_features=encode_features(_unit(prototypes), dtype),
            prototype_latlon=places[: len(counts)],
            member_offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            member_features=encode_features(members, dtype),
            member_latlon=places,
            metric=metric,
        )


def mixture_queries(
    mixture: Mixture, index: PrototypeIndex, num_queries: int, num_candidates: int, noise: float
) -> tuple[Float32[np.ndarray, "N D"], Int[np.ndarray, "N K"]]:
    """Members of the index moved by noise, in members' standard deviations, and candidate cells.

    Candidates are the member's own cell and those whose centres are nearest to its.
    """
    rng = np.random.default_rng(mixture.seed + 1)
    rows = rng.integers(0, mixture.num_vectors, num_queries)
    features = index.member_features.decode(rows)
    lengths = np.sqrt(mixture.num_features * (1 + CELL_SPREAD**2 + PROTOTYPE_SPREAD**2 + MEMBER_SPREAD**2))
    moved = features + noise * MEMBER_SPREAD / lengths * rng.standard_normal(features.shape, np.float32)
    cells = np.searchsorted(index.cell_members, rows, side="right") - 1
    vectors = unit_vectors(cell_centers(mixture))
    near = cKDTree(vectors).query(vectors[cells], k=range(1, num_candidates + 1))[1]
    near[:, -1] = np.where((near == cells[:, None]).any(axis=1), near[:, -1], cells)  # cells may share a place
    return _unit(moved.astype(np.float32)), near


def _unit(vectors: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@lru_cache(maxsize=1)
def _real_centers() -> Float64[np.ndarray, "C 2"]:
    return read_partition(_bundle() / "cells.parquet").centers


def _bundle() -> Path:
    return Path(str(files("geo_ray") / "bundles" / "earth-tiny"))
