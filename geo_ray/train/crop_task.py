"""The geocell model on overhead crops: its task, and the losses of a batch of places."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import nn

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition
from geo_ray.models.heads import GeocellModel
from geo_ray.models.losses import great_circle_km, haversine_targets, place_contrastive, soft_cross_entropy
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.towers import TOWERS
from geo_ray.train.config import TowerConfig, TrainConfig
from geo_ray.train.places import PlaceBatch, place_batches
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.task import Stream

CELLS = "cells.parquet"


def fresh_tower(config: TowerConfig) -> nn.Module:
    """An image tower with weights by the seed."""
    torch.manual_seed(config.seed)
    return TOWERS[config.tower](config.image_size, config.num_features)


def normalize(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Pixels in 0..1 as the tower wants them, channels last (half the time of a step on CPU)."""
    shift, scale = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (mean, std))
    return ((pixels - shift) / scale).contiguous(memory_format=torch.channels_last)


def batch_losses(
    model: torch.nn.Module,
    batch: PlaceBatch,
    cells: torch.Tensor,
    cell_latlon: torch.Tensor,
    config: TrainConfig,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
) -> dict[str, torch.Tensor]:
    """The losses by name.

    ``cells`` is the haversine-smoothed classification of both views, ``places`` the contrast between them, and
    ``total`` their weighted sum.
    """
    pixels = normalize(torch.cat([batch.first, batch.second]), *constants)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features, logits, logit_scale = model(pixels)
    targets = haversine_targets(
        batch.latlon, cell_latlon, cells, config.tau_km, config.target_reference, config.normalize_targets
    )
    in_cells = soft_cross_entropy(logits, targets.repeat(2, 1))
    first, second = features.chunk(2)
    apart = great_circle_km(batch.latlon, batch.latlon)
    in_places = (
        place_contrastive(first, second, apart, logit_scale, config.sigma_km)
        + place_contrastive(second, first, apart, logit_scale, config.sigma_km)
    ) / 2
    return {"cells": in_cells, "places": in_places, "total": in_cells + config.contrastive_weight * in_places}


def target_cells(latlon: Float64[np.ndarray, "b 2"], partition: Partition, config: TrainConfig) -> Int[np.ndarray, "b"]:
    """The cells of a batch's places where the targets depend on them, which normalised ones do not; else zeros."""
    if config.target_reference == "true" and not config.normalize_targets:
        return cells_of(latlon, partition)
    return np.zeros(len(latlon), np.int64)


class CropTask:
    """Geocells of overhead crops, for a small fresh tower and its head."""

    best = ""

    def __init__(self, config: TrainConfig, partition: Partition) -> None:
        self._config, self._partition = config, partition
        self.model: nn.Module = GeocellModel(fresh_tower(config), config.num_features, len(partition))
        self._cell_latlon = torch.from_numpy(partition.centers)

    def losses(self, model: nn.Module, batch: PlaceBatch) -> dict[str, torch.Tensor]:
        """See ``batch_losses``."""
        device = next(model.parameters()).device
        cells = torch.from_numpy(target_cells(batch.latlon.numpy(), self._partition, self._config)).to(device)
        on_device = PlaceBatch(**{name: tensor.to(device) for name, tensor in vars(batch).items()})
        centers = self._cell_latlon.to(device)
        return batch_losses(model, on_device, cells, centers, self._config, (CLIP_MEAN, CLIP_STD))

    def ids(self, batch: PlaceBatch) -> list[str]:
        """Where the crops are."""
        return [f"{latitude:.4f} {longitude:.4f}" for latitude, longitude in batch.latlon.tolist()]

    def validate(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Nothing: the bundle is what is judged."""
        return {}


@dataclass(frozen=True, kw_only=True)
class CropWork:
    """The training of ``CropTask`` on the cells in the run's ``CELLS``."""

    config: TrainConfig

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[CropTask, Stream]:
        """The task and this worker's batches."""
        with tempfile.TemporaryDirectory() as here:
            partition = read_partition(folder.fetch(CELLS, Path(here, CELLS)))
        task = CropTask(self.config, partition)
        return task, place_batches(self.config, rank(), states, world_size())
