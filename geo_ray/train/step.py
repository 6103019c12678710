"""One training step: the losses of a batch of places."""

import torch
from torch.nn import functional as F

from geo_ray.models.losses import great_circle_km, haversine_targets, place_contrastive, soft_cross_entropy
from geo_ray.train.config import TrainConfig
from geo_ray.train.places import PlaceBatch


def normalize(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Pixels in 0..1 as the tower wants them, channels last (half the time of a step on CPU)."""
    shift, scale = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (mean, std))
    return ((pixels - shift) / scale).contiguous(memory_format=torch.channels_last)


class PlaceQueue:
    """Features of past first views and their places: negatives beyond the batch (He et al. 2020, arXiv 1911.05722)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._features: list[torch.Tensor] = []
        self._latlon: list[torch.Tensor] = []

    def push(self, features: torch.Tensor, latlon: torch.Tensor) -> None:
        """Add a batch; the oldest leave when there are more than ``size``."""
        self._features.append(features.detach())
        self._latlon.append(latlon)
        while sum(map(len, self._latlon)) > self._size:
            del self._features[0], self._latlon[0]

    def with_batch(self, features: torch.Tensor, latlon: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch followed by the queue."""
        return torch.cat([features, *self._features]), torch.cat([latlon, *self._latlon])


def batch_losses(
    model: torch.nn.Module,
    batch: PlaceBatch,
    cells: torch.Tensor,
    cell_latlon: torch.Tensor,
    queue: PlaceQueue,
    *,
    config: TrainConfig,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
) -> dict[str, torch.Tensor]:
    """``cells``: haversine-smoothed classification of both views; ``places``: contrast between them; their ``total``.

    ``constants`` are the mean and the standard deviation of the tower's input.
    """
    pixels = normalize(torch.cat([batch.first, batch.second]), *constants)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        features, logits, logit_scale = model(pixels)
    first, second = F.normalize(features.float(), dim=1).chunk(2)
    in_places = torch.zeros(())
    for anchors, others in ((first, second), (second, first)):
        candidates, latlon = queue.with_batch(others, batch.latlon)
        apart = great_circle_km(batch.latlon, latlon)
        in_places = in_places + place_contrastive(anchors, candidates, apart, logit_scale, config.sigma_km) / 2
    queue.push(first, batch.latlon)
    in_cells = torch.zeros(())
    if config.cell_weight:
        targets = haversine_targets(
            batch.latlon,
            cell_latlon,
            cells,
            config.tau_km,
            reference=config.target_reference,
            normalize=config.normalize_targets,
        )
        in_cells = soft_cross_entropy(logits, targets.repeat(2, 1))
    else:
        in_cells = logits.sum() * 0
    return {"cells": in_cells, "places": in_places, "total": config.cell_weight * in_cells + in_places}
