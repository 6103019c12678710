"""Test images that training data give away: near them, by the same author, or nearly the same picture.

PIGEON, section 4.1: of four Flickr benchmarks 58 to 77 % of the places lie within 100 m of an image of MP-16, of GWS15k
8 %. Shapes: n test images, m of training, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Float64, Int, Shaped, UInt64
from scipy.spatial import cKDTree

from geo_ray.errors import InputError
from geo_ray.evaluation.comparison import Comparison
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors
from geo_ray.index.engine import IVF, Flat
from geo_ray.index.engines import build_engine
from geo_ray.tables.joining import join

EXACT = 200_000  # training images whose nearest others are found by exact search; of more, by inverted lists
NUM_CANDIDATES = 8  # nearest by features, and as many by hash, that are looked at more closely
REASONS = ("near", "same_group", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of one side; what is None is not known. ``hashes`` are perceptual, of 64 bits (``models.image_hash``)."""

    ids: pa.Array
    latlon: Float64[np.ndarray, "n 2"]
    groups: Shaped[np.ndarray, "n"] | None = None
    features: Float32[np.ndarray, "n D"] | None = None
    hashes: UInt64[np.ndarray, "n"] | None = None


@dataclass(frozen=True, kw_only=True)
class LeakRules:
    """What counts as a leak.

    A place within ``within_km`` of one of training. A picture whose hash differs in at most ``max_bits`` of 64 from
    one of training and whose features, at length one, are no further than ``max_distance`` apart; where only one of
    both is known, in at most ``max_bits_alone``, or no further than ``max_distance_alone``.
    """

    within_km: float = 0.1
    max_bits: int = 12
    max_distance: float = 0.4
    max_bits_alone: int = 8
    max_distance_alone: float = 0.25

    def __post_init__(self) -> None:
        for name in ("within_km", "max_distance", "max_distance_alone"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name}={getattr(self, name)} must not be below 0")
        for name in ("max_bits", "max_bits_alone"):
            if not 0 <= getattr(self, name) <= 64:
                raise InputError(f"{name}={getattr(self, name)} must be from 0 to 64")


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """For each test image: km to the nearest place of training, and whether an author is shared.

    ``duplicate`` is the row of the training image that it nearly is, -1 for none.
    """

    nearest_km: Float64[np.ndarray, "n"]
    same_group: Bool[np.ndarray, "n"]
    duplicate: Int[np.ndarray, "n"]
    rules: LeakRules

    @property
    def reasons(self) -> dict[str, Bool[np.ndarray, "n"]]:
        """Which images leak, by reason."""
        near = self.nearest_km <= self.rules.within_km
        return dict(zip(REASONS, (near, self.same_group, self.duplicate >= 0), strict=True))

    @property
    def any(self) -> Bool[np.ndarray, "n"]:
        """Which images leak at all."""
        return np.asarray(np.any(list(self.reasons.values()), axis=0))


def find_leaks(test: Images, train: Images, rules: LeakRules, num_threads: int = 1) -> Leaks:
    """What each test image shares with training; ``InputError`` where there is nothing to compare."""
    if len(train.latlon) == 0:
        raise InputError("no training images to look for leaks in; check --train")
    same = np.zeros(len(test.latlon), bool)
    if test.groups is not None and train.groups is not None:
        same = np.isin(test.groups.astype(str), np.unique(train.groups.astype(str))) & (test.groups != "")
    return Leaks(
        nearest_km=_nearest_km(test.latlon, train.latlon),
        same_group=same,
        duplicate=find_duplicates(test, train, rules, num_threads),
        rules=rules,
    )


def _nearest_km(latlon: Float64[np.ndarray, "n 2"], others: Float64[np.ndarray, "m 2"]) -> Float64[np.ndarray, "n"]:
    chord, _ = cKDTree(unit_vectors(others)).query(unit_vectors(latlon), workers=-1)
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1)))


def find_duplicates(test: Images, train: Images, rules: LeakRules, num_threads: int = 1) -> Int[np.ndarray, "n"]:
    """The row of the training image that each test image nearly is, -1 for none; the most alike of several."""
    found = np.full(len(test.latlon), -1)
    pairs = [pair for pair in (_by_features(test, train, num_threads), _by_hash(test, train)) if pair is not None]
    if not pairs or len(test.latlon) == 0:
        return found
    candidates = np.concatenate(pairs, axis=1)
    distance, bits = _apart(test, train, candidates)
    both = (bits <= rules.max_bits) & (distance <= rules.max_distance)
    only_bits = np.isnan(distance) & (bits <= rules.max_bits_alone)
    alike = both | only_bits | (np.isnan(bits) & (distance <= rules.max_distance_alone))
    worth = np.where(alike & (candidates >= 0), np.nan_to_num(bits, nan=0.0) + np.nan_to_num(distance, nan=0.0), np.inf)
    best = worth.argmin(axis=1)
    rows = np.arange(len(found))
    return np.where(np.isfinite(worth[rows, best]), candidates[rows, best], found)


def _by_features(test: Images, train: Images, num_threads: int) -> Int[np.ndarray, "n K"] | None:
    """The training images that are nearest by features."""
    if test.features is None or train.features is None:
        return None
    parameters = Flat() if len(train.features) <= EXACT else IVF()
    engine = build_engine(parameters, _unit(train.features), num_threads=num_threads)
    return engine.search(_unit(test.features), min(NUM_CANDIDATES, len(train.features)))[0]


def _by_hash(test: Images, train: Images) -> Int[np.ndarray, "n K"] | None:
    """The training images whose hashes differ in the fewest bits."""
    if test.hashes is None or train.hashes is None:
        return None
    import faiss

    index = faiss.IndexBinaryFlat(64)
    index.add(train.hashes.astype("<u8").view(np.uint8).reshape(-1, 8))
    queries = test.hashes.astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.asarray(index.search(queries, min(NUM_CANDIDATES, len(train.hashes)))[1], np.int64)


def _apart(
    test: Images, train: Images, candidates: Int[np.ndarray, "n K"]
) -> tuple[Float64[np.ndarray, "n K"], Float64[np.ndarray, "n K"]]:
    """Feature distances and differing bits of pairs; NaN where they aren't known."""
    distance, bits = np.full(candidates.shape, np.nan), np.full(candidates.shape, np.nan)
    ours = None if test.features is None else _unit(test.features).astype(np.float64)
    for column in range(candidates.shape[1]):
        rows = candidates[:, column]
        if ours is not None and train.features is not None:
            apart = ours - _unit(train.features[rows])
            distance[:, column] = np.linalg.norm(apart, axis=1)
        if test.hashes is not None and train.hashes is not None:
            bits[:, column] = np.bitwise_count(test.hashes ^ train.hashes[rows])
    return distance, bits


def _unit(features: Float32[np.ndarray, "_ D"]) -> Float32[np.ndarray, "_ D"]:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), np.float32)


def leak_table(test: Images, train: Images, leaks: Leaks) -> pa.Table:
    """A row a test image: the reasons why it leaks, what it leaks from, and how near that is."""
    reasons = leaks.reasons
    names = [",".join(name for name in REASONS if reasons[name][row]) for row in range(len(leaks.nearest_km))]
    of = pa.array([row if row >= 0 else None for row in leaks.duplicate.tolist()], pa.int64())
    return pa.table(
        {
            "image_id": test.ids,
            "leak": pa.array(leaks.any),
            "reasons": pa.array(names, pa.string()),
            "nearest_train_km": pa.array(leaks.nearest_km),
            "duplicate_of": train.ids.take(of).cast(pa.string()),
        }
    )


def counts_text(leaks: Leaks) -> str:
    """How many images leak, and why."""
    counts: Mapping[str, Any] = {name: int(which.sum()) for name, which in leaks.reasons.items()}
    total = len(leaks.nearest_km)
    return (
        f"{int(leaks.any.sum()):,} of {total:,} test images leak: {counts['near']:,} within "
        f"{leaks.rules.within_km:g} km of training, {counts['same_group']:,} of the same author or sequence, "
        f"{counts['duplicate']:,} near-duplicates"
    )


def without_leaks(comparison: Comparison, path: str | Path) -> tuple[Comparison, str]:
    """The comparison of images that don't leak, by what ``geo-ray leaks`` wrote, and a sentence on the others.

    ``InputError`` where the file is another, or no image is left. An image that it doesn't name is taken for clean.
    """
    try:
        table = pq.read_table(path, columns=["image_id", "leak", "reasons"])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{path} is not what geo-ray leaks writes ({error}); run it for these images") from error
    joined, ambiguous = join(comparison.ids, table["image_id"].combine_chunks())
    if joined is None:
        raise InputError(f"{path} names none of these images{ambiguous and f' ({ambiguous})'}; run geo-ray leaks again")
    leak = np.zeros(len(comparison), bool)
    leak[joined.rows] = table["leak"].to_numpy()[joined.other_rows]
    clean = np.flatnonzero(~leak)
    if len(clean) == 0:
        raise InputError(f"{path}: all {len(comparison):,} images leak; nothing is left to evaluate")
    unknown = len(comparison) - len(joined)
    said = f"without the {int(leak.sum()):,} of {len(comparison):,} images that leak ({path}):"
    return comparison.take(clean), said + (f" it doesn't name {unknown:,}, which are kept" if unknown else "")
