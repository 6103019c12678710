"""Search of one shard: prototypes and members, gated by candidate cells.

Shapes: N images, K candidate cells, M members a cell, D features.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from geo_ray.errors import BundleError
from geo_ray.index.index_folder import PrototypeIndex, read_index
from geo_ray.index.nearest import BlockSearch, Measure
from geo_ray.index.refine import Matches
from geo_ray.index.threads import Workers


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Members nearest to each image, nearest first: their ids, places in degrees and distances; -1 and inf for none."""

    ids: Int64[np.ndarray, "N M"]
    distance: Float64[np.ndarray, "N M"]
    latlon: Float64[np.ndarray, "N M 2"]


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
        """The nearest prototype and the nearest members of each candidate cell, nearest first.

        A cell of -1 is none, and holds nothing.
        """
        ...

    def neighbours(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        measure: Measure | None = None,
    ) -> Neighbours:
        """The nearest members of all candidate cells together; by the index's own metric, or another measure."""
        ...


class Shard:
    """Exact cell-gated search: one block of matrix products for each cell that any image of the batch asks for.

    The index stays where it is: on disk where it is memory-mapped. Searches may overlap.
    """

    def __init__(self, index: PrototypeIndex, num_threads: int = 1) -> None:
        self.index = index
        self._workers = Workers(num_threads)
        self._prototypes = BlockSearch(index.prototype_features, index.metric)
        self._members = BlockSearch(index.member_features, index.metric, index.member_ids)

    def search(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        members: Literal["prototype", "cell"],
    ) -> Matches:
        """See ``Searcher.search``."""
        n, k = cells.shape
        images = np.repeat(np.arange(n), k)
        prototypes = self._blocks(cells)
        best, prototype_distance = self._prototypes.nearest(features, images, prototypes, 1, self._workers)
        blocks = self.index.member_offsets[prototypes]
        within = self.index.member_offsets[best + np.arange(2)] if members == "prototype" else None
        rows, distance = self._members.nearest(features, images, blocks, num_members, self._workers, within)
        return Matches(
            prototype_distance=prototype_distance.reshape(n, k).astype(np.float32),
            member_distance=distance.reshape(n, k, num_members).astype(np.float32),
            member_latlon=self._places(rows).reshape(n, k, num_members, 2),
        )

    def neighbours(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        measure: Measure | None = None,
    ) -> Neighbours:
        """See ``Searcher.neighbours``."""
        n, k = cells.shape
        index, images = self.index, np.repeat(np.arange(n), k)
        search = BlockSearch(
            index.member_features, measure or index.metric, index.member_ids, hubness=index.member_hubness
        )
        blocks = index.member_offsets[self._blocks(cells)]
        rows, distance = search.nearest(features, images, blocks, num_members, self._workers)
        ids = np.where(rows < 0, -1, rows if index.member_ids is None else index.member_ids[rows])
        width = k * num_members
        found = Neighbours(
            ids=ids.reshape(n, width),
            distance=distance.reshape(n, width),
            latlon=self._places(rows).reshape(n, width, 2),
        )
        return nearest_of(found, num_members)

    def _blocks(self, cells: Int[np.ndarray, "N K"]) -> Int64[np.ndarray, "P 2"]:
        """The prototypes of each image's cells."""
        flat = cells.ravel()
        if len(flat) and not -1 <= flat.min() <= flat.max() < self.index.num_cells:
            raise ValueError(f"cells from {flat.min()} to {flat.max()}; the index has {self.index.num_cells}")
        return np.where(flat[:, None] < 0, 0, self.index.cell_offsets[flat[:, None] + np.arange(2)])

    def _places(self, rows: Int64[np.ndarray, "P M"]) -> Float64[np.ndarray, "P M 2"]:
        places = np.zeros((*rows.shape, 2))
        places[rows >= 0] = self.index.member_latlon[rows[rows >= 0]]
        return places


def nearest_of(found: Neighbours, num_members: int) -> Neighbours:
    """The nearest of each image's neighbours; of equal distances the smaller id."""
    order = np.lexsort((found.ids, found.distance))[:, :num_members]
    return Neighbours(
        ids=np.take_along_axis(found.ids, order, axis=1),
        distance=np.take_along_axis(found.distance, order, axis=1),
        latlon=np.take_along_axis(found.latlon, order[..., None], axis=1),
    )


def open_shard(folder: Path, num_threads: int = 1, generation: str = "") -> Shard:
    """The searcher over an index folder, ready when its files are found whole: no feature is read.

    ``BundleError`` where the index is damaged, or a shard of another generation than the one given.
    """
    index = read_index(folder)
    if generation and index.generation != generation:
        raise BundleError(f"{folder} is of generation {index.generation or 'none'}, not {generation}; copy it again")
    return Shard(index, num_threads)
