"""Which shard answers what, and one answer from those of the shards.

Shapes: N images, n of them that ask a shard, K candidate cells, M members.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

from geo_ray.index.nearest import Measure
from geo_ray.index.refine import Matches
from geo_ray.index.shard import Neighbours, Searcher, nearest_of

Request = tuple[np.ndarray, np.ndarray]  # n images, and their cells (n, K) that the shard holds, else -1


def route(cells: Int[np.ndarray, "N K"], owners: Int[np.ndarray, "C"]) -> dict[int, Request]:
    """For each shard that any image needs: the images that ask it, and their cells, -1 where it isn't theirs."""
    if cells.size and not -1 <= cells.min() <= cells.max() < len(owners):
        raise ValueError(f"cells from {cells.min()} to {cells.max()}; the index has {len(owners)}")
    owner = np.where(cells < 0, -1, owners[cells])
    requests: dict[int, Request] = {}
    for shard in np.unique(owner[owner >= 0]).tolist():
        images = np.flatnonzero((owner == shard).any(axis=1))
        requests[shard] = images, np.where(owner[images] == shard, cells[images], -1)
    return requests


def merge_matches(
    requests: Sequence[Request], answers: Sequence[Matches], shape: tuple[int, int], num_members: int
) -> Matches:
    """The answer for all images and cells (N, K): each cell's is its own shard's."""
    whole = Matches(
        prototype_distance=np.full(shape, np.inf, np.float32),
        member_distance=np.full((*shape, num_members), np.inf, np.float32),
        member_latlon=np.zeros((*shape, num_members, 2)),
    )
    for (images, cells), answer in zip(requests, answers, strict=True):
        rows, ranks = np.nonzero(cells >= 0)
        for name, values in vars(answer).items():
            getattr(whole, name)[images[rows], ranks] = values[rows, ranks]
    return whole


def merge_neighbours(
    requests: Sequence[Request], answers: Sequence[Neighbours], num_images: int, num_members: int
) -> Neighbours:
    """The nearest of all shards' neighbours; of equal distances the smaller id."""
    shape = (num_images, max(1, len(answers)) * num_members)
    whole = Neighbours(ids=np.full(shape, -1, np.int64), distance=np.full(shape, np.inf), latlon=np.zeros((*shape, 2)))
    for part, ((images, _), answer) in enumerate(zip(requests, answers, strict=True)):
        columns = slice(part * num_members, (part + 1) * num_members)
        for name, values in vars(answer).items():
            getattr(whole, name)[images, columns] = values
    return nearest_of(whole, num_members)


def merge_nearest(
    ids: Sequence[Int64[np.ndarray, "N _"]], distances: Sequence[Float[np.ndarray, "N _"]], num_rows: int
) -> tuple[Int64[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
    """The nearest of what several engines found among vectors of their own, by ids that they share."""
    every, apart = np.concatenate(ids, axis=1), np.concatenate(distances, axis=1)
    order = np.lexsort((every, apart))[:, :num_rows]
    return np.take_along_axis(every, order, axis=1), np.take_along_axis(apart, order, axis=1)


class Sharded:
    """All shards of an index in one process: answers as one shard of the whole would."""

    def __init__(self, shards: Sequence[Searcher], owners: Int[np.ndarray, "C"]) -> None:
        self._shards, self._owners = shards, owners

    def search(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        members: Literal["prototype", "cell"],
    ) -> Matches:
        """See ``Searcher.search``."""
        requests = route(cells, self._owners)
        answers = [
            self._shards[shard].search(own, features[images], num_members, members)
            for shard, (images, own) in requests.items()
        ]
        return merge_matches(list(requests.values()), answers, cells.shape, num_members)

    def neighbours(
        self,
        cells: Int[np.ndarray, "N K"],
        features: Float32[np.ndarray, "N D"],
        num_members: int,
        measure: Measure | None = None,
    ) -> Neighbours:
        """See ``Searcher.neighbours``."""
        requests = route(cells, self._owners)
        answers = [
            self._shards[shard].neighbours(own, features[images], num_members, measure)
            for shard, (images, own) in requests.items()
        ]
        return merge_neighbours(list(requests.values()), answers, len(cells), num_members)
