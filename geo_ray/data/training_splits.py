"""Which images are trained on, so that what is held out says something: by block and group, with a buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.spatial import cKDTree

from geo_ray.datasets.splits import SplitKind, splits
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How images are split.

    Blocks of a quarter of a degree are held out by ``seed`` (or squares, discs or countries: ``kind``), with nothing to
    train on within ``buffer_km`` of what is held out, nor by an author who is there too, nor within ``benchmark_km`` of
    a benchmark's image.
    """

    kind: SplitKind = "blocks"
    seed: int = 7
    buffer_km: float = 0.0
    benchmark_km: float = 0.1  # PIGEON, section 4.1

    def __post_init__(self) -> None:
        if not (self.buffer_km >= 0 and self.benchmark_km >= 0):
            raise ValueError(f"{self} must have no distance below 0")


def split_images(
    latlon: Float64[np.ndarray, "n 2"],
    rules: SplitRules,
    groups: Shaped[np.ndarray, "n"] | None = None,
    benchmarks: Sequence[Float64[np.ndarray, "_ 2"]] = (),
    given: Shaped[np.ndarray, "n"] | None = None,
) -> Shaped[np.ndarray, "n"]:
    """``train``, ``validation`` or ``test`` for each image, or why it is in none of them.

    ``given`` are splits that a data set has of its own; an empty one is left to the rules. What is held out stays so;
    images to train on are left out as ``near_benchmark``, ``buffer`` or ``same_group``.
    """
    found = np.array(splits(latlon, rules.seed, rules.kind), dtype=object)
    if given is not None:
        found = np.where(given != "", given, found)
    found[found == "between"] = "buffer"
    found = np.where(found == "val", "validation", found)
    held_out = np.isin(found, ("validation", "test"))
    _leave_out(found, "near_benchmark", [_within(latlon, points, rules.benchmark_km) for points in benchmarks])
    if rules.buffer_km > 0:
        _leave_out(found, "buffer", [_within(latlon, latlon[held_out], rules.buffer_km)])
    if groups is not None:
        theirs = np.unique(groups[held_out & (groups != "")].astype(str))
        _leave_out(found, "same_group", [np.isin(groups.astype(str), theirs)])
    return np.asarray(found.astype(str))


def _leave_out(found: Shaped[np.ndarray, "n"], why: str, which: Sequence[np.ndarray]) -> None:
    for each in which:
        found[(found == "train") & each] = why


def _within(
    latlon: Float64[np.ndarray, "n 2"], points: Float64[np.ndarray, "m 2"], km: float
) -> Shaped[np.ndarray, "n"]:
    if not len(points):
        return np.zeros(len(latlon), bool)
    chord, _ = cKDTree(unit_vectors(points)).query(
        unit_vectors(latlon), distance_upper_bound=2 * np.sin(min(km / EARTH_RADIUS_KM, np.pi) / 2) + 1e-12
    )
    return np.asarray(np.isfinite(chord))
