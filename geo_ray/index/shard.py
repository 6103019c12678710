"""What can be asked of an index, and one shard that answers: prototypes and members, gated by candidate cells.

Shapes: N images, n of them that ask a shard, K candidate cells, M members a cell, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from geo_ray.errors import BundleError
from geo_ray.index.features import StoredFeatures
from geo_ray.index.index_folder import PrototypeIndex, read_index
from geo_ray.index.nearest import BlockSearch, Measure
from geo_ray.index.refine import Matches
from geo_ray.index.threads import Workers

if TYPE_CHECKING:
    from geo_ray.index.on_device import DeviceRows

Answer = TypeVar("Answer")
Request = tuple[np.ndarray, np.ndarray]  # n images, and their cells (n, K) that the shard holds, else -1


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Members nearest to each image, nearest first: their ids, places in degrees and distances; -1 and inf for none."""

    ids: Int64[np.ndarray, "N M"]
    distance: Float64[np.ndarray, "N M"]
    latlon: Float64[np.ndarray, "N M 2"]


class Question(ABC, Generic[Answer]):
    """What is asked of an index about images' candidate cells: how a shard answers, and what shards' answers make.

    A cell of -1 is none, and holds nothing.
    """

    name: ClassVar[str]

    @abstractmethod
    def of_shard(self, shard: "Shard", cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]) -> Answer:
        """What one shard holds of it."""

    @abstractmethod
    def merged(self, requests: Sequence[Request], answers: Sequence[Answer], shape: tuple[int, ...]) -> Answer:
        """The answer for all images and cells, of shape (N, K), from those of the shards that were asked."""


class Searcher(ABC):
    """Searches an index; in process or on shard actors."""

    @abstractmethod
    def ask(
        self, question: Question[Answer], cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]
    ) -> Answer:
        """The answer for all images."""

    def search(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        members: Literal["prototype", "cell"],
    ) -> Matches:
        """The nearest prototype and the nearest members of each candidate cell, nearest first."""
        return self.ask(EachCell(num_members=num_members, members=members), cells, features)

    def neighbours(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        measure: Measure | None = None,
    ) -> Neighbours:
        """The nearest members of all candidate cells together; by the index's own metric, or another measure."""
        return self.ask(AllCells(num_members=num_members, measure=measure), cells, features)


@dataclass(frozen=True, kw_only=True)
class EachCell(Question[Matches]):
    """See ``Searcher.search``."""

    name: ClassVar[str] = "search"
    num_members: int
    members: Literal["prototype", "cell"]

    def of_shard(self, shard: "Shard", cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]) -> Matches:
        """See ``Question``."""
        n, k = cells.shape
        images = np.repeat(np.arange(n), k)
        prototypes, offsets = shard.blocks(cells), shard.index.member_offsets
        best, prototype_distance = shard.prototypes.nearest(features, images, prototypes, 1, shard.workers)
        within = offsets[best + np.arange(2)] if self.members == "prototype" else None
        rows, distance = shard.members.nearest(
            features, images, offsets[prototypes], self.num_members, shard.workers, within
        )
        return Matches(
            prototype_distance=prototype_distance.reshape(n, k).astype(np.float32),
            member_distance=distance.reshape(n, k, self.num_members).astype(np.float32),
            member_latlon=shard.places(rows).reshape(n, k, self.num_members, 2),
        )

    def merged(self, requests: Sequence[Request], answers: Sequence[Matches], shape: tuple[int, ...]) -> Matches:
        """Each cell's answer is its own shard's."""
        whole = Matches(
            prototype_distance=np.full(shape, np.inf, np.float32),
            member_distance=np.full((*shape, self.num_members), np.inf, np.float32),
            member_latlon=np.zeros((*shape, self.num_members, 2)),
        )
        for (images, cells), answer in zip(requests, answers, strict=True):
            rows, ranks = np.nonzero(cells >= 0)
            for name, values in vars(answer).items():
                getattr(whole, name)[images[rows], ranks] = values[rows, ranks]
        return whole


@dataclass(frozen=True, kw_only=True)
class AllCells(Question[Neighbours]):
    """See ``Searcher.neighbours``."""

    name: ClassVar[str] = "neighbours"
    num_members: int
    measure: Measure | None = None

    def of_shard(
        self, shard: "Shard", cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]
    ) -> Neighbours:
        """See ``Question``."""
        (n, k), index = cells.shape, shard.index
        search = shard.members_by(self.measure or index.metric)
        blocks = index.member_offsets[shard.blocks(cells)]
        rows, distance = search.nearest(features, np.repeat(np.arange(n), k), blocks, self.num_members, shard.workers)
        ids = np.where(rows < 0, -1, rows if index.member_ids is None else index.member_ids[rows])
        width = k * self.num_members
        return self._nearest(ids.reshape(n, width), distance.reshape(n, width), shard.places(rows).reshape(n, width, 2))

    def merged(self, requests: Sequence[Request], answers: Sequence[Neighbours], shape: tuple[int, ...]) -> Neighbours:
        """The nearest of all shards'."""
        whole = shape[0], max(1, len(answers)), self.num_members
        ids, distance, latlon = np.full(whole, -1, np.int64), np.full(whole, np.inf), np.zeros((*whole, 2))
        for part, ((images, _), answer) in enumerate(zip(requests, answers, strict=True)):
            ids[images, part], distance[images, part], latlon[images, part] = answer.ids, answer.distance, answer.latlon
        width = shape[0], whole[1] * whole[2]
        return self._nearest(ids.reshape(width), distance.reshape(width), latlon.reshape(*width, 2))

    def _nearest(
        self, ids: Int64[np.ndarray, "N _"], distance: Float64[np.ndarray, "N _"], latlon: Float64[np.ndarray, "N _ 2"]
    ) -> Neighbours:
        """The nearest of each image's members; of equal distances the smaller id."""
        order = np.lexsort((ids, distance))[:, : self.num_members]
        return Neighbours(
            ids=np.take_along_axis(ids, order, axis=1),
            distance=np.take_along_axis(distance, order, axis=1),
            latlon=np.take_along_axis(latlon, order[..., None], axis=1),
        )


class Shard(Searcher):
    """Exact cell-gated search: one block of matrix products for each cell that any image of the batch asks for.

    The index stays where it is: on disk where it is memory-mapped; with a torch ``device`` its features are copied
    there, to be searched with the same answers. Searches may overlap.
    """

    def __init__(self, index: PrototypeIndex, num_threads: int = 1, device: str | None = None) -> None:
        self.index = index
        self.workers = Workers(num_threads)
        self._members_on_device = _on_device(index.member_features, device)
        on_device = _on_device(index.prototype_features, device)
        self.prototypes = BlockSearch(index.prototype_features, index.metric, on_device=on_device)
        self._by_measure: dict[Measure, BlockSearch] = {}

    @property
    def members(self) -> BlockSearch:
        """The search of members by the index's own metric."""
        return self.members_by(self.index.metric)

    def members_by(self, measure: Measure) -> BlockSearch:
        """The search of members by a measure."""
        if measure not in self._by_measure:
            index = self.index
            self._by_measure[measure] = BlockSearch(
                index.member_features, measure, index.member_ids, index.member_hubness, self._members_on_device
            )
        return self._by_measure[measure]

    def ask(
        self, question: Question[Answer], cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]
    ) -> Answer:
        """See ``Searcher``."""
        return question.of_shard(self, cells, features)

    def blocks(self, cells: Int[np.ndarray, "N K"]) -> Int64[np.ndarray, "P 2"]:
        """The prototypes of each image's cells: the first, and the one after the last."""
        flat = cells.ravel()
        if len(flat) and not -1 <= flat.min() <= flat.max() < self.index.num_cells:
            raise ValueError(f"cells from {flat.min()} to {flat.max()}; the index has {self.index.num_cells}")
        return np.where(flat[:, None] < 0, 0, self.index.cell_offsets[flat[:, None] + np.arange(2)])

    def places(self, rows: Int64[np.ndarray, "P M"]) -> Float64[np.ndarray, "P M 2"]:
        """Degrees of members, 0 for none."""
        places = np.zeros((*rows.shape, 2))
        places[rows >= 0] = self.index.member_latlon[rows[rows >= 0]]
        return places


def _on_device(features: StoredFeatures, device: str | None) -> "DeviceRows | None":
    if device is None:
        return None
    from geo_ray.index.on_device import DeviceRows  # which needs torch

    return DeviceRows(features.codes, device)


def open_shard(folder: Path, num_threads: int = 1, generation: str = "", device: str | None = None) -> Shard:
    """The searcher over an index folder, ready when its files are found whole: without a device, no feature is read.

    ``BundleError`` where the index is damaged, or a shard of another generation than the one given.
    """
    index = read_index(folder)
    if generation and index.generation != generation:
        raise BundleError(f"{folder} is of generation {index.generation or 'none'}, not {generation}; copy it again")
    return Shard(index, num_threads, device)
