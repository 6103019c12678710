"""Which photo locations are trained on and which are held out, in ways that ask for more and more.

``squares`` holds out squares of 50 metres: positions between known positions of a city. ``blocks`` holds out blocks of
a quarter of a degree: places between known places. ``regions`` holds out discs of ``REGION_KM``, with nothing to train
on within ``BUFFER_KM`` of one: places where nothing is known for as far as a crop is wide. ``countries`` holds out
countries wholly: places of a country with no known place. A point's split depends on where it is and on the seed alone,
so points that are added later land where their square, block, region or country is.
"""

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int, Shaped
from scipy.spatial import cKDTree

from geo_ray.atlas.boundaries import boundaries
from geo_ray.datasets import earth
from geo_ray.geo.blocks import block_ids
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors

SplitKind = Literal["squares", "blocks", "regions", "countries"]
SQUARE_DEGREES = 0.0005  # 55 m from south to north
BLOCK_SHARES = {"test": 0.07, "validation": 0.04}  # of the blocks; the rest is for training
NUM_REGIONS = {"test": 30, "validation": 15}
REGION_KM = 100.0  # from the middle of a region to its edge
BUFFER_KM = 400.0  # from its edge to the nearest training place: a crop's width
NUM_COUNTRIES = {"test": 18, "validation": 9}
MIN_PHOTOS = 50  # of a country, to be held out


def splits(latlon: Float64[np.ndarray, "n 2"], seed: int, kind: SplitKind = "blocks") -> Shaped[np.ndarray, "n"]:
    """``train``, ``validation`` or ``test`` for each point; ``between`` for the buffer about held-out regions."""
    if kind == "regions":
        return _by_region(latlon, seed)
    if kind == "countries":
        return _by_country(latlon, seed)
    draw = _hash_uniform(units_of(latlon, seed, kind), seed)
    test, validation = BLOCK_SHARES["test"], BLOCK_SHARES["validation"]
    return np.where(draw < test, "test", np.where(draw < test + validation, "validation", "train"))


def units_of(latlon: Float64[np.ndarray, "n 2"], seed: int, kind: SplitKind) -> Shaped[np.ndarray, "n"]:
    """What each point is held out with, wholly or not: its square or block, its nearest region, or its country."""
    if kind == "regions":
        return _nearest_region(latlon, seed)[1]
    if kind == "squares":
        return block_ids(latlon, SQUARE_DEGREES)
    return boundaries().place_of(latlon).country if kind == "countries" else block_ids(latlon)


def order_by_hash(codes: list[str], seed: int) -> list[str]:
    """Codes by the SHA-256 of the seed and the code: an order that does not change when others come or go."""
    return sorted(codes, key=lambda code: hashlib.sha256(f"{seed}{code}".encode()).digest())


def _by_region(latlon: Float64[np.ndarray, "n 2"], seed: int) -> Shaped[np.ndarray, "n"]:
    """Where two regions meet, the nearer one has the place."""
    away, nearest = _nearest_region(latlon, seed)
    held_out = np.where(nearest < NUM_REGIONS["test"], "test", "validation")
    return np.where(away < REGION_KM, held_out, np.where(away < REGION_KM + BUFFER_KM, "between", "train"))


def _nearest_region(
    latlon: Float64[np.ndarray, "n 2"], seed: int
) -> tuple[Float64[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Great-circle km to the nearest region's middle, and its number; test regions come first."""
    chord, nearest = _regions(seed).query(unit_vectors(latlon))
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))), np.asarray(nearest, np.int64)


@lru_cache(maxsize=4)
def _regions(seed: int) -> cKDTree:
    """The middles of the regions, photo locations of as many blocks drawn at random."""
    latlon = earth.locations()
    first = np.unique(block_ids(latlon), return_index=True)[1]
    return cKDTree(unit_vectors(latlon[np.random.default_rng(seed).permutation(first)[: sum(NUM_REGIONS.values())]]))


def _by_country(latlon: Float64[np.ndarray, "n 2"], seed: int) -> Shaped[np.ndarray, "n"]:
    held_out, found = _held_out_countries(seed), boundaries().place_of(latlon).country
    named = [np.isin(found, held_out[name]) for name in ("test", "validation")]
    return np.select(named, ["test", "validation"], "train")


@lru_cache(maxsize=4)
def _held_out_countries(seed: int) -> dict[str, list[str]]:
    countries = boundaries().place_of(earth.locations()).country
    codes, counts = np.unique(countries.astype(str), return_counts=True)
    order = order_by_hash(codes[counts >= MIN_PHOTOS].tolist(), seed)
    test, both = NUM_COUNTRIES["test"], sum(NUM_COUNTRIES.values())
    return {"test": order[:test], "validation": order[test:both]}


def _hash_uniform(values: Int[np.ndarray, "n"], seed: int) -> Float64[np.ndarray, "n"]:
    """A number in [0, 1) for each integer: splitmix64's finaliser (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2**53
