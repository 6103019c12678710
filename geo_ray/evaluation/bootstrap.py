"""How far figures would be off for other places of the same kind: the block bootstrap.

Photos cluster: hundreds of one city say hardly more than one of them. So whole groups of photos are drawn, not photos:
each group as often as a Poisson number with mean 1 says, which is the multinomial bootstrap where groups are many and
needs no second pass over them (Chamandy et al. 2012, "Estimating uncertainty for massive data streams").

Shapes: n images, G groups, R draws, J points of a distribution.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float64, Int, Shaped, UInt8
from scipy.stats import poisson

from geo_ray.geo.blocks import BLOCK_DEGREES, block_ids
from geo_ray.geo.metrics import weighted_mean, weighted_median

NUM_DRAWS = 1000
LEAST_GROUPS = 10  # below it draws differ too little to tell anything
NUM_POINTS = 512  # of a distribution whose median is drawn, and again of what lies between those that matter
GROUPS_AT_ONCE = 4096
MAX_KEPT = 200_000_000  # bytes of draws that are kept for the next figure
# How often a group is drawn, by a number of 16 bits: Poisson with mean 1 to a hundred-thousandth, ten times as fast.
POISSON = np.repeat(
    np.arange(9, dtype=np.uint8), np.diff(np.rint(poisson.cdf(np.arange(-1, 9), 1.0) * 2**16).astype(np.int64))
)
LEVEL = 95  # percent of the draws that an interval holds


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Which group each image is of, from 0, and what the groups are."""

    numbers: Int[np.ndarray, "n"]
    described: str

    @cached_property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.numbers.max(initial=-1)) + 1

    @cached_property
    def sizes(self) -> Int[np.ndarray, "G"]:
        """How many images each has."""
        return np.bincount(self.numbers, minlength=self.count)

    @cached_property
    def weights(self) -> Float64[np.ndarray, "n"]:
        """What each image counts where each group counts one."""
        return np.asarray(1.0 / self.sizes[self.numbers])

    @cached_property
    def order(self) -> Int[np.ndarray, "n"]:
        """The images by rising group."""
        return np.argsort(self.numbers, kind="stable")

    def take(self, rows: Int[np.ndarray, "m"]) -> "Groups":
        """Those of these images, numbered anew."""
        numbers = np.unique(self.numbers[rows], return_inverse=True)[1].astype(np.int64)
        return Groups(numbers=numbers, described=self.described)

    @property
    def effective_count(self) -> float:
        """As how many images these count, where those of a group are all alike: n^2 / sum of squared sizes."""
        return float(len(self.numbers) ** 2 / np.square(self.sizes, dtype=np.float64).sum()) if self.count else 0.0


def groups_by_block(latlon: Float64[np.ndarray, "n 2"]) -> Groups:
    """Images grouped by the block of a quarter of a degree that they were taken in."""
    numbers = np.unique(block_ids(latlon), return_inverse=True)[1].astype(np.int64)
    return Groups(numbers=numbers, described=f"blocks of {BLOCK_DEGREES:g} degrees")


def groups_by_column(values: Shaped[np.ndarray, "n"], name: str) -> Groups:
    """Images grouped by the texts of a column; one that has none is a group of its own."""
    alone = values == ""
    encoded = pa.array(values, pa.string()).dictionary_encode()
    rank = np.argsort(np.argsort(encoded.dictionary.to_numpy(zero_copy_only=False)))
    numbers = rank[encoded.indices.to_numpy()]
    numbers[alone] = numbers.max(initial=-1) + 1 + np.arange(alone.sum())
    return Groups(numbers=np.unique(numbers, return_inverse=True)[1].astype(np.int64), described=f"column {name!r}")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure: the mean, or the median, of a number of each image; NaN is left out."""

    values: Shaped[np.ndarray, "n"]
    is_median: bool = False

    def estimate(self, weights: Float64[np.ndarray, "n"] | None = None) -> float:
        """The figure."""
        return (weighted_median if self.is_median else weighted_mean)(self.values, weights)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Draws of whole groups. The same draws for every figure, and for every run of the same images: they pair."""

    groups: Groups
    num_draws: int = NUM_DRAWS
    seed: int = 0

    def replicates(
        self, measures: Mapping[str, Measure], weights: Float64[np.ndarray, "n"] | None = None
    ) -> dict[str, Float64[np.ndarray, "R"]]:
        """Each figure, of each draw; NaN where a draw has no image with a value."""
        w = np.ones(len(self.groups.numbers)) if weights is None else weights
        means = {name: measure.values for name, measure in measures.items() if not measure.is_median}
        found = self._means(means, w)
        return {
            name: self._median(measure.values, w) if measure.is_median else found[name]
            for name, measure in measures.items()
        }

    def _means(
        self, columns: Mapping[str, Shaped[np.ndarray, "n"]], weights: Float64[np.ndarray, "n"]
    ) -> dict[str, Float64[np.ndarray, "R"]]:
        """Weighted means: sums by group, then by draw."""
        if not columns:
            return {}
        held = self._group_sums(weights)
        sums = np.concatenate([self._sum(values, weights, held) for values in columns.values()], axis=1)
        drawn = self.draw(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            return dict(zip(columns, (drawn[:, 0::2] / drawn[:, 1::2]).T, strict=True))

    def draw(self, sums: Float64[np.ndarray, "G k"]) -> Float64[np.ndarray, "R k"]:
        """Sums over the groups of each draw, from those of each group."""
        drawn = np.zeros((self.num_draws, sums.shape[1]))
        for part, counts in self._draws():
            drawn += counts.astype(np.float64) @ sums[part]
        return drawn

    def _group_sums(self, values: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "G"]:
        return np.bincount(self.groups.numbers, values, self.groups.count).astype(np.float64)

    def _sum(
        self,
        values: Shaped[np.ndarray, "n"],
        weights: Float64[np.ndarray, "n"],
        held: Float64[np.ndarray, "G"],
    ) -> Float64[np.ndarray, "G 2"]:
        """Weighted sums of each group's values, and of their weights: ``held`` where all have a value."""
        unknown = np.isnan(values) if values.dtype.kind == "f" else np.zeros(0, bool)
        if not unknown.any():
            return np.stack([self._group_sums(weights * values), held], axis=1)
        weights = np.where(unknown, 0.0, weights)
        return np.stack([self._group_sums(weights * np.where(unknown, 0.0, values)), self._group_sums(weights)], axis=1)

    def _median(self, values: Float[np.ndarray, "n"], weights: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "R"]:
        """Weighted medians: the first value that half of a draw lies at or below.

        First among some points of the distribution, then among the values between those that all draws lie between.
        """
        order = self.groups.order
        rows = order[(~np.isnan(values) & (weights > 0))[order]]
        if len(rows) == 0:
            return np.full(self.num_draws, np.nan)
        values, weights = values[rows], weights[rows]
        points = _points(values, weights)
        found = self._first_half(values, weights, rows, points)
        drawn = found[found >= 0]
        if len(drawn) == 0:
            return np.full(self.num_draws, np.nan)
        below = points[drawn.min() - 1] if drawn.min() > 0 else -np.inf
        above = points[drawn.max()]
        between = (values > below) & (values <= above)
        points = np.unique(np.concatenate([[below, values.max()], _points(values[between], weights[between])]))
        found = self._first_half(values, weights, rows, points)
        return np.where(found >= 0, points[found], np.nan)

    def _first_half(
        self,
        values: Float[np.ndarray, "m"],
        weights: Float64[np.ndarray, "m"],
        rows: Int[np.ndarray, "m"],
        points: Float64[np.ndarray, "J"],
    ) -> Int[np.ndarray, "R"]:
        """The first point that half of each draw lies at or below, -1 for a draw of nothing; rows are by group."""
        groups, places = self.groups.numbers[rows], np.searchsorted(points, values)
        held = np.zeros((self.num_draws, len(points)))
        for part, counts in self._draws():
            inside = slice(*np.searchsorted(groups, (part.start, part.stop)))
            cells = (groups[inside] - part.start) * len(points) + places[inside]
            shape = part.stop - part.start, len(points)
            here = np.bincount(cells, weights[inside], shape[0] * shape[1]).reshape(shape)
            held += counts.astype(np.float32) @ here.astype(np.float32)
        held = np.cumsum(held, axis=1)
        first = (held >= held[:, -1:] / 2 * (1 - 1e-6)).argmax(axis=1)
        return np.where(held[:, -1] > 0, first, -1)

    def _draws(self) -> Iterator[tuple[slice, UInt8[np.ndarray, "R g"]]]:
        """How often each draw has each group, some groups at a time; kept where there is room for them."""
        if self.groups.count * self.num_draws > MAX_KEPT:
            return self._drawn()
        return iter(self._kept)

    @cached_property
    def _kept(self) -> list[tuple[slice, UInt8[np.ndarray, "R g"]]]:
        return list(self._drawn())

    def _drawn(self) -> Iterator[tuple[slice, UInt8[np.ndarray, "R g"]]]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.groups.count, GROUPS_AT_ONCE):
            part = slice(start, min(start + GROUPS_AT_ONCE, self.groups.count))
            shape = self.num_draws, part.stop - part.start
            yield part, POISSON[rng.integers(0, len(POISSON), shape, np.uint16)]


def _points(values: Float[np.ndarray, "m"], weights: Float64[np.ndarray, "m"]) -> Float64[np.ndarray, "J"]:
    """All values, or some that have equal weight between them, the largest among them; ascending."""
    order = np.argsort(values)
    ordered = values[order].astype(np.float64)
    if np.count_nonzero(np.diff(ordered)) < NUM_POINTS:
        return np.unique(ordered)
    held = np.cumsum(weights[order])
    places = np.searchsorted(held, held[-1] * np.linspace(0, 1, NUM_POINTS) * (1 - 1e-12))
    return np.unique(np.append(ordered[places], ordered[-1]))


def interval(replicates: Float64[np.ndarray, "R"], num_groups: int) -> tuple[float, float]:
    """The middle ``LEVEL`` percent of the draws; NaN for fewer than ``LEAST_GROUPS`` groups."""
    known = replicates[~np.isnan(replicates)]
    if num_groups < LEAST_GROUPS or len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
