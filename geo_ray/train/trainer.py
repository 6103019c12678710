"""Training through Ray Train."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

from geo_ray.atlas.boundaries import boundaries
from geo_ray.cells.partition_file import write_partition
from geo_ray.cells.semantic import Semantic
from geo_ray.remote.cell_tasks import build_cells
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.config import LoopConfig, TrainConfig
from geo_ray.train.contrastive import contrastive_worker
from geo_ray.train.held_out import held_out_countries, photo_places, training_places, write_places
from geo_ray.train.loop import WEIGHTS, train_worker
from geo_ray.train.places import train_locations

PROGRESS = "progress.jsonl"
POLL_S = 2.0


class Progress(UserCallback):  # type: ignore[misc]  # mypy does not follow Ray
    """Appends a line a report, the mean over the workers; runs in Ray Train's controller, not in the driver."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(self, run_context: object, metrics: list[dict[str, float]], checkpoint: object) -> None:
        """Write the line."""
        mean = {name: sum(m[name] for m in metrics) / len(metrics) for name in metrics[0]}
        with self._path.open("a") as file:
            file.write(json.dumps(mean) + "\n")


@contextmanager
def following(path: Path, num_steps: int, say: Callable[[str], None]) -> Iterator[None]:
    """Says every line of progress that appears in the file while the context lasts."""
    done = threading.Event()

    def follow() -> None:
        said = 0
        while not done.wait(POLL_S):
            lines = path.read_text().splitlines()
            for line in lines[said:]:
                say(_progress_text(json.loads(line), num_steps))
            said = len(lines)

    path.write_text("")
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _progress_text(metrics: dict[str, float], num_steps: int) -> str:
    step = round(metrics.pop("step"))
    return f"step {step} of {num_steps}: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def train(config: TrainConfig, output: Path, say: Callable[[str], None] = print) -> tuple[Path, Path]:
    """Build the cells and train on them; returns the paths of the weights and of the cells.

    Needs a connected Ray with the workers' CPUs (or GPUs) free. Run again with the same ``output``, it returns the
    finished run's weights.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    cells = output / "cells.parquet"
    semantic = Semantic(sizes=config.cell_sizes, seed=config.seed)
    write_partition(build_cells(boundaries(), train_locations(config, "train"), semantic), cells)
    return run_workers(train_worker, config, {"cells": str(cells)}, output, say), cells


def train_captions(
    config: CaptionConfig, output: Path, say: Callable[[str], None] = print
) -> tuple[Path, tuple[str, ...]]:
    """Train a small CLIP on places with captions; returns the path of the weights, and the countries held out.

    Needs Ray, and runs again, as ``train`` does.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    photos = photo_places()
    held_out = held_out_countries(photos.countries, config)
    training = training_places(photos, config)
    write_places(training, output / "places.parquet")
    say(f"held out: {', '.join(held_out)}; {len(training):,} places to train on, {config.apart_km:g} km away or more")
    return run_workers(contrastive_worker, config, {"places": str(output / "places.parquet")}, output, say), held_out


def run_workers(
    worker: Callable[[dict[str, Any]], None],
    config: LoopConfig,
    settings: dict[str, Any],
    output: Path,
    say: Callable[[str], None],
) -> Path:
    """Run the workers of a training to its end and return the path of the weights that rank 0 saved.

    Each gets the settings, and the configuration as a dict under ``config``.
    """
    scaling = ScalingConfig(
        num_workers=config.num_workers,
        use_gpu="GPU" in ray.cluster_resources(),
        resources_per_worker={"CPU": config.threads_per_worker},
    )
    run = RunConfig(name="run", storage_path=str(output), callbacks=[Progress(output / PROGRESS)])
    every = settings | {"config": dataclasses.asdict(config)}
    with following(output / PROGRESS, config.num_steps, say):
        result = TorchTrainer(worker, train_loop_config=every, scaling_config=scaling, run_config=run).fit()
    if result.error is not None:
        raise result.error
    return Path(result.checkpoint.path, WEIGHTS)
