"""Exact nearest neighbours within blocks of rows: listed by float32 matrix products, decided in float64.

A float32 product rounds differently for other numbers of rows. So it only lists candidates: all rows whose score lies
within twice the rounding error of the k-th best. Their distances are computed in float64, a pair at a time, and an
answer depends neither on the batch that an image came in nor on threads.

Shapes: N images, P pairs of an image and a block, M rows of a block, D features, L listed pairs and rows.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

from geo_ray.index.features import StoredFeatures, check_finite
from geo_ray.index.threads import Workers

if TYPE_CHECKING:
    from geo_ray.index.on_device import DeviceRows

Measure = Literal["l2", "ip", "cosine", "csls"]
Group = tuple[int, int, np.ndarray]  # a block's first row, the row after its last, and the pairs that ask for it
Listed = tuple[np.ndarray, np.ndarray]  # pairs and rows

UNIT_ROUNDOFF = 2.0**-24  # of float32
BLOCK_ROWS = 1024  # decoded at a time: 3 MB at 768-d
MATRIX_SIZE = 2**22  # scores at a time
LISTED_SIZE = 2**18  # features of listed rows at a time: 2 MB in float64
FEW_IMAGES = 4  # up to so many, vector products are faster than BLAS' packing of a block
TASKS_A_THREAD = 4  # so that one large cell doesn't keep the others waiting


class BlockSearch:
    """Exact search of stored features, a block of rows for each image.

    ``l2`` is the Euclidean distance, ``ip`` one minus the inner product, ``cosine`` one minus the cosine similarity,
    and ``csls`` that plus half of a row's ``hubness`` (Conneau et al. 2018, ICLR, section 2.3, less what depends on the
    image alone). ``ids`` decide between equal distances; without them rows do. With ``on_device``, the same features on
    a GPU, rows are listed there.
    """

    def __init__(
        self,
        features: StoredFeatures,
        measure: Measure,
        ids: Int64[np.ndarray, "n"] | None = None,
        hubness: Float32[np.ndarray, "n"] | None = None,
        on_device: "DeviceRows | None" = None,
    ) -> None:
        if measure == "csls" and hubness is None:
            raise ValueError("measure='csls' needs the members' hubness, which this index doesn't hold")
        self._features, self._measure, self._ids = features, measure, ids
        self._hubness = hubness if measure == "csls" else None
        self._unit = measure in ("cosine", "csls")
        self._on_device = on_device
        if on_device is not None and len(features):
            self._scoring = on_device.scoring(self._factors(0, len(features)), self._offsets(0, len(features)))

    def nearest(
        self,
        queries: Float32[np.ndarray, "N D"],
        images: Int[np.ndarray, "P"],
        blocks: Int[np.ndarray, "P 2"],
        num_rows: int,
        workers: Workers,
        within: Int[np.ndarray, "P 2"] | None = None,
    ) -> tuple[Int64[np.ndarray, "P k"], Float64[np.ndarray, "P k"]]:
        """The nearest rows of each pair's block and their distances, nearest first; -1 and inf where there are none.

        A block is its first row and the row after its last; blocks with one first row must be the same. ``within``
        narrows each pair's block further.
        """
        check_queries(queries, self._features)
        lengths = np.sqrt(np.vecdot(queries, queries))
        scaled = queries
        if self._unit:
            scaled, lengths = queries / np.where(lengths > 0, lengths, 1)[:, None], np.ones_like(lengths)

        def list_rows(groups: list[Group]) -> list[Listed]:
            buffer = np.empty((BLOCK_ROWS, queries.shape[1]), np.float32)
            found = []
            for start, stop, pairs in groups:
                scores = self._scores(scaled[images[pairs]], start, stop, buffer)
                if within is not None:
                    _mask(scores, start, within[pairs])
                listed = _listed(scores, num_rows, self._margin(lengths[images[pairs]], start, stop))
                which, row = np.divmod(listed, stop - start)
                found.append((pairs[which], row + start))
            return found

        if self._on_device is not None and len(self._features):
            margin = self._margin(lengths, 0, len(self._features))
            found = self._on_device.near(scaled, images, blocks, self._scoring, num_rows, margin, within)
        else:
            tasks = _tasks(blocks, TASKS_A_THREAD * workers.num_threads)
            found = [listed for task in workers.map(list_rows, tasks) for listed in task]
        pairs, rows = (np.concatenate([np.zeros(0, np.int64), *(part[i] for part in found)]) for i in (0, 1))
        distances = self.distances(queries, images[pairs], rows, workers)
        return best_rows(pairs, rows, distances, len(images), num_rows, self._ids)

    def distances(
        self,
        queries: Float32[np.ndarray, "N D"],
        images: Int[np.ndarray, "L"],
        rows: Int[np.ndarray, "L"],
        workers: Workers,
    ) -> Float64[np.ndarray, "L"]:
        """The distance of each listed image and row, in float64."""
        step = max(1, LISTED_SIZE // queries.shape[1])

        def some(part: slice) -> Float64[np.ndarray, "l"]:
            x = queries[images[part]].astype(np.float64)
            y = self._features.decode(rows[part]).astype(np.float64)
            if self._measure == "l2":
                x -= y
                return np.asarray(np.sqrt(np.vecdot(x, x)))
            similarity = np.vecdot(x, y)
            if self._unit:
                length = np.sqrt(np.vecdot(x, x) * np.vecdot(y, y))
                similarity = np.divide(similarity, length, out=np.zeros_like(similarity), where=length > 0)
            return np.asarray(1 - similarity + (0 if self._hubness is None else 0.5 * self._hubness[rows[part]]))

        parts = [slice(start, start + step) for start in range(0, len(rows), step)]
        return np.concatenate([np.zeros(0), *workers.map(some, parts)])

    def _scores(
        self, queries: Float32[np.ndarray, "n D"], start: int, stop: int, buffer: Float32[np.ndarray, "b D"]
    ) -> Float32[np.ndarray, "n M"]:
        """What ranks the rows of a block as their distances do: an offset less a multiple of the inner product."""
        scores = np.empty((len(queries), stop - start), np.float32)
        for first in range(start, stop, BLOCK_ROWS):
            last = min(first + BLOCK_ROWS, stop)
            block = self._features.block(first, last, buffer)
            _products(queries, block, scores[:, first - start : last - start])
        factors = self._factors(start, stop)
        if factors is not None:
            scores *= factors
        offsets = self._offsets(start, stop)
        return np.negative(scores, out=scores) if offsets is None else np.subtract(offsets, scores, out=scores)

    def _factors(self, start: int, stop: int) -> Float32[np.ndarray, "M"] | None:
        scales = None if self._features.scales is None else self._features.scales[start:stop]
        if not self._unit:
            return scales
        lengths = np.sqrt(self._features.squared_norms[start:stop])
        factors = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        return np.asarray(factors if scales is None else factors * scales)

    def _offsets(self, start: int, stop: int) -> Float32[np.ndarray, "M"] | None:
        if self._hubness is not None:
            return self._hubness[start:stop] * np.float32(0.5)
        if self._measure != "l2":
            return None
        return self._features.squared_norms[start:stop] * np.float32(0.5)

    def _margin(self, lengths: Float32[np.ndarray, "n"], start: int, stop: int) -> Float32[np.ndarray, "n"]:
        """Twice the most that a score can be off.

        In any order, the sum of D products is off by at most D roundings of the product of the lengths: Higham (2002),
        Accuracy and Stability of Numerical Algorithms, eq. 3.5. Eight more are for scales, offsets and lengths.
        """
        reach = 1.0 if self._unit else float(np.sqrt(self._features.squared_norms[start:stop].max()))
        offset = 0.5 * reach**2 if self._measure == "l2" else 0.0
        if self._hubness is not None:
            offset = 0.5 * float(np.abs(self._hubness[start:stop]).max())
        roundings = 2 * (self._features.codes.shape[1] + 8) * UNIT_ROUNDOFF
        return np.asarray(roundings * (lengths * reach + offset), np.float32)


def check_queries(queries: Float32[np.ndarray, "N D"], features: StoredFeatures) -> None:
    """Raise ``ValueError`` where images and index have features of other lengths, ``InputError`` where one is NaN."""
    if queries.shape[1] != features.codes.shape[1]:
        raise ValueError(f"images have {queries.shape[1]} features, the index has {features.codes.shape[1]}")
    check_finite(queries, "images' feature vectors")


def best_rows(
    pairs: Int[np.ndarray, "L"],
    rows: Int[np.ndarray, "L"],
    distances: Float64[np.ndarray, "L"],
    num_pairs: int,
    num_rows: int,
    ids: Int64[np.ndarray, "n"] | None = None,
) -> tuple[Int64[np.ndarray, "P k"], Float64[np.ndarray, "P k"]]:
    """The nearest of each pair's listed rows, nearest first; of equal distances the smaller id, or row."""
    order = np.lexsort((rows if ids is None else ids[rows], distances, pairs))
    pairs = pairs[order]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs, pairs)
    kept = rank < num_rows
    place = pairs[kept], rank[kept]
    best = np.full((num_pairs, num_rows), -1, np.int64)
    nearest = np.full((num_pairs, num_rows), np.inf)
    best[place], nearest[place] = rows[order[kept]], distances[order[kept]]
    return best, nearest


def _products(
    queries: Float32[np.ndarray, "n D"], block: Float32[np.ndarray, "m D"], out: Float32[np.ndarray, "n m"]
) -> None:
    """Inner products of all with all."""
    if len(queries) > FEW_IMAGES:
        np.matmul(queries, block.T, out=out)
        return
    for row, query in zip(out, queries, strict=True):
        np.matmul(block, query, out=row)


def _mask(scores: Float32[np.ndarray, "n M"], start: int, within: Int[np.ndarray, "n 2"]) -> None:
    """Rows outside each image's range score inf."""
    columns = np.arange(start, start + scores.shape[1])
    scores[(columns < within[:, :1]) | (columns >= within[:, 1:])] = np.inf


def _listed(
    scores: Float32[np.ndarray, "n M"], num_rows: int, margin: Float32[np.ndarray, "n"]
) -> Int[np.ndarray, "l"]:
    """Where, in the flattened scores, are those within the margin of the k-th best."""
    if num_rows >= scores.shape[1]:
        return np.flatnonzero(scores < np.inf)
    kth = scores.min(axis=1) if num_rows == 1 else np.partition(scores, num_rows - 1, axis=1)[:, num_rows - 1]
    limit = np.minimum(kth + margin, np.finfo(np.float32).max)
    return np.flatnonzero(scores <= limit[:, None])


def _tasks(blocks: Int[np.ndarray, "P 2"], num_tasks: int) -> list[list[Group]]:
    """The pairs by block, in row order, in tasks of about the same work."""
    groups = _groups(blocks)
    if not groups:
        return []
    work = np.cumsum([(stop - start) * (len(pairs) + 4) for start, stop, pairs in groups])  # decoding is 4 products
    edges = np.searchsorted(work, np.linspace(0, work[-1], num_tasks + 1)[1:-1])
    cuts = [0, *edges.tolist(), len(groups)]
    return [groups[a:b] for a, b in pairwise(cuts) if a < b]


def _groups(blocks: Int[np.ndarray, "P 2"]) -> list[Group]:
    """The pairs that ask for each block that isn't empty; in pieces where its scores would fill too much memory."""
    asked = np.flatnonzero(blocks[:, 1] > blocks[:, 0])
    asked = asked[np.argsort(blocks[asked, 0], kind="stable")]
    edges = np.flatnonzero(np.diff(blocks[asked, 0], prepend=-1, append=-1))
    groups: list[Group] = []
    for first, last in pairwise(edges):
        start, stop = blocks[asked[first]].tolist()
        step = max(1, MATRIX_SIZE // (stop - start))
        groups += [(start, stop, asked[at : min(at + step, last)]) for at in range(first, last, step)]
    return groups
