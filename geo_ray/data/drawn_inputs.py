"""Inputs of a training table that are drawn where they are read: satellite crops, and map tiles of a city's streets.

``earth:400`` are 400 of the embedded crops, ``earth:400x4`` four views of each; ``streets:DIR`` are tiles of the
addresses in a folder by ``geo-ray address build``, ``streets:20@DIR`` with 20 tiles of each address to train on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geo_ray.data.sources import Row, Shard
from geo_ray.datasets import earth
from geo_ray.datasets.street_map import Tiling, encode_png, open_street_map
from geo_ray.errors import InputError

EARTH, STREETS = "earth:", "streets:"
CROPS_PER_SHARD = 600
CROPS_AT_ONCE = 64
ADDRESSES_PER_SHARD = 16


def is_drawn(text: str) -> bool:
    """Whether an input is drawn, by how it begins."""
    return text.startswith((EARTH, STREETS))


def drawn_shards(text: str, seed: int) -> list[Shard]:
    """The shards of a drawn input; ``InputError`` where it isn't said as it should be."""
    if text.startswith(STREETS):
        folder, tiling = _tiling(text, seed)
        count = len(open_street_map(folder).addresses)
        return [
            TileShard(label=f"{text}/{first}", folder=folder, tiling=tiling, first=first,
                      stop=min(first + ADDRESSES_PER_SHARD, count))
            for first in range(0, count, ADDRESSES_PER_SHARD)
        ]  # fmt: skip
    count, views = _crop_counts(text)
    return [
        CropShard(label=f"{text}/{first}", first=first, stop=min(first + CROPS_PER_SHARD, count), num_views=views,
                  seed=seed)
        for first in range(0, count, CROPS_PER_SHARD)
    ]  # fmt: skip


def drawn_truth(text: str, seed: int) -> tuple[list[str], np.ndarray, dict[str, Sequence[Any]]]:
    """Ids, places (degrees), and what else is known of the images of a drawn input, by column."""
    if text.startswith(STREETS):
        folder, tiling = _tiling(text, seed)
        street_map = open_street_map(folder)
        tiles = [tile for row in range(len(street_map.addresses)) for tile in street_map.positions(row, tiling)]
        if not tiles:
            raise InputError(f"{text}: none of its addresses has a course to draw tiles on")
        rows = [tile.address for tile in tiles]
        known: dict[str, Sequence[Any]] = {
            "place": street_map.addresses.ids[rows].tolist(),
            "split": [tile.split for tile in tiles],
            "address": street_map.addresses.texts[rows].tolist(),
            "caption": [tile.caption for tile in tiles],
        }
        return [tile.tile_id for tile in tiles], np.stack([tile.latlon for tile in tiles]), known
    count, views = _crop_counts(text)
    names = crop_ids(0, count, views)
    of_crops: dict[str, Sequence[Any]] = {
        "place": [name.rpartition("-")[0] for name in names],
        "view": list(range(views)) * count,
    }
    return names, np.repeat(crop_places(count, seed), views, axis=0), of_crops


def drawn_folder(text: str) -> str:
    """The folder of streets and addresses that tiles are drawn of."""
    return _tiling(text, 0)[0]


@dataclass(frozen=True, kw_only=True)
class CropShard(Shard):
    """Some of the embedded crops: the same photo locations every time, each in ``num_views`` views."""

    first: int
    stop: int
    num_views: int
    seed: int = 0

    @property
    def identity(self) -> tuple[Any, ...]:
        """Which crops they are."""
        return (self.first, self.stop, self.num_views, self.seed)

    def rows(self) -> Iterator[Row]:
        """The crops, as JPEG."""
        latlon = np.repeat(crop_places(self.stop, self.seed)[self.first :], self.num_views, axis=0)
        views = earth.jittered_views(latlon, np.random.default_rng((self.seed, self.first)))
        names = crop_ids(self.first, self.stop, self.num_views)
        for start in range(0, len(views), CROPS_AT_ONCE):
            pixels = earth.render(views.take(slice(start, start + CROPS_AT_ONCE)), raster_name=earth.RASTERS[0])
            for name, picture in zip(names[start:], pixels, strict=False):
                yield Row(name, (f"{EARTH}{name}",), (earth.encode_jpeg(picture),))


def crop_places(count: int, seed: int) -> np.ndarray:
    """The first of the photo locations in an order by the seed, degrees."""
    latlon = earth.locations()
    return np.asarray(latlon[np.random.default_rng(seed).permutation(len(latlon))[:count]])


def crop_ids(first: int, stop: int, num_views: int) -> list[str]:
    """Ids of crops, view by view."""
    return [f"crop-{place:06d}-{view}" for place in range(first, stop) for view in range(num_views)]


def _crop_counts(text: str) -> tuple[int, int]:
    count, _, views = text.removeprefix(EARTH).partition("x")
    if not count.isdecimal() or not (views or "1").isdecimal() or int(count) < 1:
        raise InputError(f"{text} must be {EARTH}NUMBER or {EARTH}NUMBERxVIEWS, as {EARTH}400x4")
    return int(count), int(views or 1)


@dataclass(frozen=True, kw_only=True)
class TileShard(Shard):
    """Map tiles of some addresses of a city."""

    folder: str
    tiling: Tiling
    first: int
    stop: int

    @property
    def identity(self) -> tuple[Any, ...]:
        """Which tiles they are."""
        return (self.folder, repr(self.tiling), self.first, self.stop)

    def rows(self) -> Iterator[Row]:
        """The tiles, as PNG."""
        street_map = open_street_map(self.folder)
        for address in range(self.first, self.stop):
            for tile in street_map.positions(address, self.tiling):
                yield Row(tile.tile_id, (f"{STREETS}{tile.tile_id}",), (encode_png(street_map.drawn(tile)),))


def _tiling(text: str, seed: int) -> tuple[str, Tiling]:
    count, sign, folder = text.removeprefix(STREETS).partition("@")
    if not sign:
        return count, Tiling(seed=seed)
    if not count.isdecimal() or int(count) < 1:
        raise InputError(f"{text} must be {STREETS}DIR or {STREETS}NUMBER@DIR, as {STREETS}20@pittsburgh")
    return folder, Tiling(num_train=int(count), seed=seed)
