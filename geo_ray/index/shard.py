"""Search of one shard in memory: prototypes and members, gated by candidate cells.

Shapes: N images, K candidate cells, M members a cell, D features.
"""

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from geo_ray.index.refine import Matches
from geo_ray.index.store import PrototypeIndex, read_index


@runtime_checkable
class Searcher(Protocol):
    """Searches an index; in process or on shard actors."""

    def search(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        members: Literal["prototype", "cell"],
    ) -> Matches:
        """The nearest prototype and the nearest members of each candidate cell, nearest first."""
        ...


class Shard:
    """Exact cell-gated search: one block of matrix products for each cell that any image of the batch asks for."""

    def __init__(self, index: PrototypeIndex) -> None:
        self._index = index
        self._prototypes = index.prototype_features.decode()
        self._members = index.member_features.decode()
        self._latlon = index.member_latlon.astype(np.float64)

    def search(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        members: Literal["prototype", "cell"],
    ) -> Matches:
        """See ``Searcher.search``."""
        n, k = cells.shape
        prototype_distance = np.full((n, k), np.inf, np.float32)
        member_distance = np.full((n, k, num_members), np.inf, np.float32)
        member_latlon = np.zeros((n, k, num_members, 2))
        for cell, images, ranks in _groups(cells):
            first, last = self._index.cell_offsets[cell : cell + 2]
            if first == last:
                continue
            to_prototypes = _distances(features[images], self._prototypes[first:last])
            best = to_prototypes.argmin(axis=1)
            prototype_distance[images, ranks] = to_prototypes[np.arange(len(images)), best]
            start = self._index.member_offsets[first]
            rows = slice(start, self._index.member_offsets[last])
            to_members = _distances(features[images], self._members[rows])
            if members == "prototype":
                owner = self._index.member_prototypes[rows] - first
                to_members[owner[None, :] != best[:, None]] = np.inf
            nearest = np.argsort(to_members, axis=1, kind="stable")[:, :num_members]
            found = nearest.shape[1]
            member_distance[images, ranks, :found] = np.take_along_axis(to_members, nearest, axis=1)
            member_latlon[images, ranks, :found] = self._latlon[nearest + start]
        return Matches(
            prototype_distance=prototype_distance, member_distance=member_distance, member_latlon=member_latlon
        )


def open_shard(folder: Path) -> Shard:
    """The searcher over an index folder."""
    return Shard(read_index(folder))


def _groups(cells: Int[np.ndarray, "N K"]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """For each distinct cell: its number, the images that ask for it, and at which rank."""
    flat = cells.ravel()
    if len(flat) == 0:
        return []
    order = np.argsort(flat, kind="stable")
    unique, starts = np.unique(flat[order], return_index=True)
    images, ranks = np.divmod(order, cells.shape[1])
    return [
        (int(cell), i, r)
        for cell, i, r in zip(unique, np.split(images, starts[1:]), np.split(ranks, starts[1:]), strict=True)
    ]


def _distances(a: Float32[np.ndarray, "n D"], b: Float32[np.ndarray, "m D"]) -> Float32[np.ndarray, "n m"]:
    """Euclidean distances by one matrix product.

    In float64: in float32, BLAS rounds differently for other numbers of rows, and an image's answer would depend on the
    batch it came in.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    squared = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None, :] - 2 * (x @ y.T)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)), np.float32)
