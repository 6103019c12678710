"""What every training worker runs: steps of the optimiser over batches of losses; and the geocell model's worker."""

import dataclasses
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from safetensors.torch import save_file

from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition
from geo_ray.models.heads import GeocellModel, limit_logit_scale
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.towers import TOWERS
from geo_ray.train.config import LoopConfig, TrainConfig
from geo_ray.train.places import place_batches
from geo_ray.train.step import batch_losses, target_cells

WEIGHTS = "weights.safetensors"


def learning_rate_share(step: int, config: LoopConfig) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then half a cosine to zero."""
    warmup = config.warmup_share * config.num_steps
    if step < warmup:
        return min((step + 1) / warmup, 1.0)  # a warm-up of 2.5 steps must not end above the peak
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (config.num_steps - warmup)))


def optimizer_of(model: torch.nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices and kernels alone, not on norms, biases and the logit scale."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def fresh_tower(config: LoopConfig) -> torch.nn.Module:
    """An image tower with weights by the seed, on as many threads as the worker has."""
    torch.set_num_threads(config.threads_per_worker)
    torch.manual_seed(config.seed)
    return TOWERS[config.tower](config.image_size, config.num_features)


def prepared(module: torch.nn.Module) -> torch.nn.Module:
    """The module on this worker's device, its gradients averaged over the workers."""
    model: torch.nn.Module = ray.train.torch.prepare_model(module.to(memory_format=torch.channels_last))
    return model


def run_steps(model: torch.nn.Module, losses: Iterable[dict[str, torch.Tensor]], config: LoopConfig) -> None:
    """Take ``num_steps`` steps down the ``total`` of losses drawn one by one, and report their means by name.

    ``model`` is a ``prepared`` one. Rank 0 saves its weights with the last report.
    """
    optimizer = optimizer_of(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, config))
    sums: dict[str, float] = {}
    for step, terms in enumerate(losses, start=1):
        terms["total"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        limit_logit_scale(model)
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % config.log_every == 0 or step == config.num_steps:
            span = (step - 1) % config.log_every + 1
            means = {name: value / span for name, value in sums.items()}
            _report({"step": step} | means, model if step == config.num_steps else None)
            sums.clear()
        if step == config.num_steps:
            return


def _report(metrics: dict[str, float], final: torch.nn.Module | None) -> None:
    """Report to the controller; with the final model, rank 0 hands in its weights as the checkpoint."""
    if final is None or ray.train.get_context().get_world_rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        module = getattr(final, "module", final)  # without the wrapper of data parallelism
        state = {k: v.detach().contiguous().cpu() for k, v in module.state_dict().items()}
        save_file(state, Path(folder, WEIGHTS))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def train_worker(settings: dict[str, Any]) -> None:
    """Train a geocell model on this rank's batches.

    ``settings`` holds the ``TrainConfig`` as a dict under ``config`` and the path of the partition under ``cells``.
    """
    config = TrainConfig(**settings["config"])
    partition = read_partition(Path(settings["cells"]))
    model = prepared(GeocellModel(fresh_tower(config), config.num_features, len(partition)))
    run_steps(model, geocell_losses(model, partition, config), config)


def geocell_losses(
    model: torch.nn.Module, partition: Partition, config: TrainConfig
) -> Iterator[dict[str, torch.Tensor]]:
    """The losses of this rank's batches, without end."""
    device = ray.train.torch.get_device()
    cell_latlon = torch.from_numpy(partition.centers).to(device)
    for batch in place_batches(config, ray.train.get_context().get_world_rank()):
        cells = torch.from_numpy(target_cells(batch.latlon.numpy(), partition, config)).to(device)
        on_device = dataclasses.replace(
            batch, first=batch.first.to(device), second=batch.second.to(device), latlon=batch.latlon.to(device)
        )
        yield batch_losses(model, on_device, cells, cell_latlon, config, (CLIP_MEAN, CLIP_STD))
