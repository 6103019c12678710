"""Batches for training: two views each of places about the training split's photo locations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from geo_ray.datasets import earth
from geo_ray.datasets.splits import splits
from geo_ray.geo.blocks import block_ids
from geo_ray.geo.sphere import destination
from geo_ray.train.augment import augment, sometimes, uniform
from geo_ray.train.config import TrainConfig
from geo_ray.train.drawn import DrawnStream


@dataclass(frozen=True, kw_only=True)
class PlaceBatch:
    """Two views of each place, (B, 3, S, S) float32 in 0..1, and where it is, (B, 2) degrees."""

    first: torch.Tensor
    second: torch.Tensor
    latlon: torch.Tensor


def place_weights(latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
    """Chance of drawing each location: the root of its block's count, shared within the block.

    Between photos alike (a third of them lie in 200 cities) and blocks alike (half of them hold one photo).
    """
    _, block, counts = np.unique(block_ids(latlon), return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[block])
    return np.asarray(weights / weights.sum())


def draw_places(
    latlon: Float64[np.ndarray, "n 2"],
    weights: Float64[np.ndarray, "n"],
    config: TrainConfig,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "b 2"]:
    """Places in groups about drawn photo locations; one that would be held out moves back."""
    group = len(config.offsets_km)
    seeds = rng.choice(len(latlon), config.places_per_step // group, p=weights)
    origin = np.repeat(latlon[seeds], group, axis=0)
    east, north = rng.normal(0, np.tile(config.offsets_km, len(seeds)), (2, len(origin)))
    moved = destination(origin, east, north)
    return np.where((splits(moved, config.split_seed, config.split) == "train")[:, None], moved, origin)


def place_batches(
    config: TrainConfig, rank: int, states: Sequence[dict[str, Any]] = (), num_workers: int = 1
) -> DrawnStream[PlaceBatch]:
    """Batches without end; every rank draws its own. ``states`` are where those of all ranks were left."""
    latlon = train_locations(config, "train")
    weights = place_weights(latlon)
    rasters = torch.cat([earth.raster(name) for name in earth.RASTERS])

    def draw(rng: np.random.Generator, generator: torch.Generator) -> PlaceBatch:
        places = draw_places(latlon, weights, config, rng)
        grids = [earth.view_grid(_views(places, config, rng), config.image_size) for _ in range(2)]
        first = earth.sample(rasters[:3], grids[0]) / 255
        second = _blend(earth.sample(rasters, grids[1]) / 255, config.other_raster_share, generator)
        return PlaceBatch(
            first=augment(first, generator, strength=config.first_strength),
            second=augment(second, generator, strength=config.second_strength),
            latlon=torch.from_numpy(places),
        )

    return DrawnStream(draw, config.seed, rank, states, num_workers)


def _views(places: Float64[np.ndarray, "b 2"], config: TrainConfig, rng: np.random.Generator) -> earth.Views:
    return earth.jittered_views(places, rng, config.jitter, config.rotation_degrees)


def _blend(pixels: torch.Tensor, share: float, rng: torch.Generator) -> torch.Tensor:
    """The first raster of a stack (B, 9, S, S), in part of the batch mixed with one of the others."""
    b = len(pixels)
    other = torch.where(sometimes(b, 0.5, rng) > 0, pixels[:, 3:6], pixels[:, 6:9])
    amount = sometimes(b, share, rng) * uniform((b, 1, 1, 1), 0.2, 1.2, rng).clamp(max=1)
    return pixels[:, :3] + amount * (other - pixels[:, :3])


def train_locations(config: TrainConfig, split: str) -> Float64[np.ndarray, "n 2"]:
    """The photo locations of one split, ``train``, ``validation`` or ``test``."""
    latlon = earth.locations()
    return np.asarray(latlon[splits(latlon, config.split_seed, config.split) == split])
