"""Which shard answers what, and all shards of an index as one searcher.

Shapes: N images, K candidate cells, C cells, D features.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

from geo_ray.index.shard import Answer, Question, Request, Searcher


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


class Sharded(Searcher):
    """All shards of an index in one process: answers as one shard of the whole would."""

    def __init__(self, shards: Sequence[Searcher], owners: Int[np.ndarray, "C"]) -> None:
        self._shards, self._owners = shards, owners

    def ask(
        self, question: Question[Answer], cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]
    ) -> Answer:
        """See ``Searcher``."""
        requests = route(cells, self._owners)
        answers = [self._shards[shard].ask(question, own, features[at]) for shard, (at, own) in requests.items()]
        return question.merged(list(requests.values()), answers, cells.shape)
