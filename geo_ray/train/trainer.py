"""Training through Ray Train."""

import dataclasses
import logging
from pathlib import Path

import ray.train
from ray.train import RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

from geo_ray.cells.rectangles import CellSizes, build_rectangles
from geo_ray.cells.store import write_partition
from geo_ray.train.config import TrainConfig
from geo_ray.train.loop import WEIGHTS, train_worker
from geo_ray.train.places import train_locations

logger = logging.getLogger(__name__)


class Progress(UserCallback):  # type: ignore[misc]  # Ray is not followed by mypy
    """One log line a report."""

    def after_report(self, run_context: object, metrics: list[dict[str, float]], checkpoint: object) -> None:
        """Log the mean over the workers."""
        mean = {k: sum(m[k] for m in metrics) / len(metrics) for k in metrics[0]}
        step = int(mean.pop("step"))
        logger.info("step %d: %s", step, ", ".join(f"{k} {v:.3f}" for k, v in mean.items()))


def train(config: TrainConfig, output: Path) -> tuple[Path, Path]:
    """Build the cells and train on them; returns the paths of the weights and of the cells.

    Needs a connected Ray with ``num_workers`` CPUs (or GPUs) free.
    """
    output.mkdir(parents=True, exist_ok=True)
    cells = output / "cells.parquet"
    sizes = CellSizes(min_size=config.min_cell_size, max_size=config.max_cell_size)
    write_partition(build_rectangles(train_locations(config, "train"), sizes), cells)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": dataclasses.asdict(config), "cells": str(cells.resolve())},
        scaling_config=ScalingConfig(num_workers=config.num_workers, use_gpu="GPU" in ray.cluster_resources()),
        run_config=RunConfig(name="train", storage_path=str(output.resolve()), callbacks=[Progress()]),
    )
    result = trainer.fit()
    if result.error is not None:
        raise result.error
    return Path(result.checkpoint.path, WEIGHTS), cells
