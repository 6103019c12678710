"""One training step: the losses of a batch of places."""

import numpy as np
import torch
from jaxtyping import Float64, Int

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import Partition
from geo_ray.models.losses import great_circle_km, haversine_targets, place_contrastive, soft_cross_entropy
from geo_ray.train.config import TrainConfig
from geo_ray.train.places import PlaceBatch


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
    with torch.autocast(pixels.device.type, torch.bfloat16):
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
