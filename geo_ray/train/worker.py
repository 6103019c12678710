"""What Ray Train runs on every worker."""

import traceback
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import ray.train
import ray.train.torch
import torch

from geo_ray.errors import GeoRayError
from geo_ray.train.config import LoopConfig
from geo_ray.train.loop import Worker, run_steps
from geo_ray.train.progress import Progress
from geo_ray.train.run_folder import FAILED, FINISHED, RunFolder, complete_steps, read_streams
from geo_ray.train.task import Stream, Task


@runtime_checkable
class Work(Protocol):
    """A training, small enough to be sent to every worker."""

    @property
    def config(self) -> LoopConfig:
        """The settings of its loop."""

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[Task, Stream]:
        """On a worker: what is learned, and its batches from where all workers' streams were left."""


def train_worker(settings: dict[str, Any]) -> None:
    """Run the training ``work`` that is kept in ``folder``, on so many ``threads``; ``watching`` is told the figures.

    A fault that trying again won't mend is written down, and the workers that would try again leave at once.
    """
    work, folder = settings["work"], settings["folder"]
    torch.set_num_threads(settings["threads"])
    if folder.read(FAILED) is not None:
        return
    steps = complete_steps(folder)
    states = read_streams(folder, steps[-1]) if steps else []
    try:
        task, stream = work.open(folder, states)
        device = ray.train.torch.get_device()
        progress = Progress(folder, settings["watching"])
        run_steps(task, stream, work.config, Worker(device=device, folder=folder, report=progress))
    except GeoRayError as error:
        folder.write_json(FAILED, {"kind": type(error).__name__, "text": str(error)})
        raise
    except ValueError as error:
        told = f"{error} ({traceback.extract_tb(error.__traceback__)[-1].name})"
        folder.write_json(FAILED, {"kind": "TrainingError", "text": told})
        raise
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        folder.write_json(FINISHED, {"step": work.config.num_steps, "workers": context.get_world_size()})
