"""What every training worker runs."""

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from jaxtyping import Float64, Int
from safetensors.torch import save_file

from geo_ray.cells.labels import cells_of
from geo_ray.cells.partition import Partition
from geo_ray.cells.store import read_partition
from geo_ray.models.heads import GeocellModel
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.towers import TOWERS
from geo_ray.train.config import TrainConfig
from geo_ray.train.places import place_batches
from geo_ray.train.step import batch_losses

WEIGHTS = "weights.safetensors"


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then half a cosine to zero."""
    warmup = config.warmup_share * config.num_steps
    if step < warmup:
        return min((step + 1) / warmup, 1.0)  # a warm-up of 2.5 steps must not end above the peak
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (config.num_steps - warmup)))


def optimizer_of(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices and kernels alone, not on norms, biases and the logit scale."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def true_cells(latlon: Float64[np.ndarray, "b 2"], partition: Partition, config: TrainConfig) -> Int[np.ndarray, "b"]:
    """The cells of a batch's places where the targets depend on them, which normalised ones do not; else zeros."""
    if config.target_reference == "true" and not config.normalize_targets:
        return cells_of(latlon, partition)
    return np.zeros(len(latlon), np.int64)


def train_worker(settings: dict[str, Any]) -> None:
    """Train on this rank's batches and report; rank 0 saves the weights with the last report.

    ``settings`` holds the ``TrainConfig`` as a dict under ``config`` and the path of the partition under ``cells``.
    """
    config = TrainConfig(**settings["config"])
    partition = read_partition(Path(settings["cells"]))
    torch.set_num_threads(config.threads_per_worker)
    torch.manual_seed(config.seed)
    tower = TOWERS[config.tower](config.image_size, config.num_features)
    module = GeocellModel(tower, config.num_features, len(partition)).to(memory_format=torch.channels_last)
    model = ray.train.torch.prepare_model(module)
    device = ray.train.torch.get_device()
    optimizer = optimizer_of(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, config))
    cell_latlon = torch.from_numpy(partition.centers).to(device)
    rank = ray.train.get_context().get_world_rank()
    sums: dict[str, float] = {}
    for step, batch in enumerate(place_batches(config, rank), start=1):
        cells = torch.from_numpy(true_cells(batch.latlon.numpy(), partition, config)).to(device)
        on_device = dataclasses.replace(
            batch, first=batch.first.to(device), second=batch.second.to(device), latlon=batch.latlon.to(device)
        )
        losses = batch_losses(model, on_device, cells, cell_latlon, config, (CLIP_MEAN, CLIP_STD))
        losses["total"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % config.log_every == 0 or step == config.num_steps:
            span = (step - 1) % config.log_every + 1
            _report(
                {"step": step} | {k: v / span for k, v in sums.items()}, module if step == config.num_steps else None
            )
            sums.clear()
        if step == config.num_steps:
            return


def _report(metrics: dict[str, float], final: torch.nn.Module | None) -> None:
    """Report to the controller; with the final model, rank 0 hands in its weights as the checkpoint."""
    if final is None or ray.train.get_context().get_world_rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        state = {k: v.detach().contiguous().cpu() for k, v in final.state_dict().items()}
        save_file(state, Path(folder, WEIGHTS))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
