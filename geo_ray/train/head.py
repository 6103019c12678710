"""The geocell head, fitted on features of a frozen tower (PIGEON, section 4.2 and appendix B.3)."""

import numpy as np
import torch
from jaxtyping import Float32, Float64

from geo_ray.cells.partition import Partition
from geo_ray.models.losses import haversine_targets, soft_cross_entropy
from geo_ray.train.config import TrainConfig
from geo_ray.train.crop_task import target_cells


def fit_head(
    features: Float32[np.ndarray, "n D"],
    latlon: Float64[np.ndarray, "n 2"],
    partition: Partition,
    start: dict[str, torch.Tensor],
    config: TrainConfig,
) -> dict[str, torch.Tensor]:
    """``weight`` (C, D) and ``bias`` (C) of the head in half precision, from where they start.

    The haversine-smoothed loss by Adam, at a rate that falls to zero. Places count alike, so that thin regions, which
    training sees seldom, are ranked as well as cities. The result is ``head_share`` of the way from the start to the
    fit: on clean views as good as the fit, on other imagery nearly as good as the start (Wortsman et al. 2022,
    arXiv 2109.01903).
    """
    x, places = torch.from_numpy(features), torch.from_numpy(latlon)
    centers, cells = torch.from_numpy(partition.centers), torch.from_numpy(target_cells(latlon, partition, config))
    weight, bias = (start[name].clone().requires_grad_() for name in ("weight", "bias"))
    batch = min(config.head_batch_size, len(x))
    num_steps = config.head_epochs * (len(x) // batch)
    optimizer = torch.optim.Adam([weight, bias], config.head_learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(config.head_epochs):
        for rows in torch.randperm(len(x), generator=generator)[: len(x) // batch * batch].view(-1, batch):
            targets = haversine_targets(
                places[rows], centers, cells[rows], config.tau_km, config.target_reference, config.normalize_targets
            )
            loss = soft_cross_entropy(x[rows] @ weight.T + bias, targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    fitted = {"weight": weight.detach(), "bias": bias.detach()}
    return {name: torch.lerp(start[name], fitted[name], config.head_share).half() for name in fitted}
