"""What every training worker runs: steps of the optimiser over batches, with validation, checkpoints and resuming.

It knows nothing of Ray: a worker tells it who it is, and what to do with what there is to report.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from geo_ray.errors import InputError, TrainingError
from geo_ray.models.heads import limit_logit_scale
from geo_ray.train.checkpoints import Checkpoints, write_weights
from geo_ray.train.config import LoopConfig
from geo_ray.train.optimizer import MeanWeights, freeze, optimizer_of, set_learning_rate
from geo_ray.train.parallel import average_whole_gradients, gradients_kept_apart, parallelised
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import BEST, WEIGHTS, RunFolder
from geo_ray.train.task import Stream, Summary, Task

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """This worker's device, where the run is kept (None: nowhere), and what the first one does with the figures."""

    device: torch.device
    folder: RunFolder | None = None
    report: Report = lambda figures: None


def run_steps(task: Task, stream: Stream, config: LoopConfig, worker: Worker) -> nn.Module:
    """Take ``num_steps`` steps down the task's ``total``; returns the model as the workers hold it.

    It goes on from the folder's last checkpoint, and ends with the weights there: the last ones, and the best by
    validation. ``TrainingError`` names the images of a batch whose loss is no number.
    """
    freeze(task.model, config)
    model = parallelised(task.model, config, worker.device)
    optimizer = optimizer_of(model, config)
    mean = MeanWeights(model, config.ema_decay) if config.ema_decay else None
    checkpoints = None if worker.folder is None else Checkpoints(worker.folder, config.num_kept)
    start = 0 if checkpoints is None else checkpoints.load(model, optimizer, mean)
    batches, watch, best = iter(stream), _Watch(task), _Best(task, worker.folder)
    figures = _Figures(config, start)
    for step in range(start, config.num_steps):
        rate = set_learning_rate(optimizer, step, config)
        for number in range(config.accumulation):
            batch = _next(batches, step)
            with gradients_kept_apart(model, apart=number + 1 < config.accumulation):
                terms = task.losses(model, batch)
                (terms["total"] / config.accumulation).backward()  # type: ignore[no-untyped-call]
            ids = task.ids(batch)
            watch.see(ids, terms["total"])
            figures.add(terms, len(ids))
        average_whole_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        limit_logit_scale(model)
        optimizer.zero_grad(set_to_none=True)
        if mean is not None:
            mean.update(model)
        done = step + 1
        last = done == config.num_steps
        if done % config.log_every == 0 or last:
            watch.settle()
            _report(worker, _mean(figures.taken(done), worker.device) | {"learning_rate": rate})
        if config.validate_every and done % config.validate_every == 0 and not last:
            found = validated(task, model)
            _report(worker, {"step": float(done)} | {f"validation {name}": v for name, v in found.values.items()})
            best.see(found, model, done)
        if checkpoints is not None and done % config.checkpoint_every == 0 and not last:
            watch.settle()
            checkpoints.save(done, model, optimizer, mean, stream.state(), {"workers": world_size()})
    watch.settle()
    if checkpoints is not None:
        checkpoints.finish()
    _end(task, model, mean, best, config, worker)
    return model


def _next(batches: Iterator[Any], step: int) -> Any:
    try:
        return next(batches)
    except StopIteration as error:
        raise InputError(f"the data ended in step {step + 1}; give more images, or fewer steps or workers") from error


def _end(
    task: Task, model: nn.Module, mean: MeanWeights | None, best: "_Best", config: LoopConfig, worker: Worker
) -> None:
    """Validate the weights that the run ends with, and write them."""
    if mean is not None:
        mean.write_to(model)
    found = validated(task, model)
    if found.values:
        told = {f"validation {name}": value for name, value in found.values.items()}
        _report(worker, {"step": float(config.num_steps)} | told)
    best.see(found, model, config.num_steps)
    if worker.folder is not None:
        write_weights(model, worker.folder, WEIGHTS)


def _report(worker: Worker, figures: dict[str, float]) -> None:
    if rank() == 0:
        worker.report(figures)


def _mean(figures: dict[str, float], device: torch.device) -> dict[str, float]:
    """The mean over workers of what each has found."""
    if world_size() == 1:
        return figures
    values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(figures, (values / world_size()).tolist(), strict=True))


def validated(task: Task, model: nn.Module) -> Summary:
    """What the task's validation finds over all workers."""
    model.eval()
    with torch.inference_mode():
        found = task.validate(model)
    model.train()
    if world_size() > 1:
        every: list[Any] = [None] * world_size()
        dist.all_gather_object(every, found)
        found = {name: np.concatenate([part[name] for part in every]) for name in found}
    return Summary.of(found)


class _Watch:
    """Ends the run when a loss is no number; each is looked at a step later, so that nobody waits for a GPU."""

    def __init__(self, task: Task) -> None:
        self._best, self._held = task.best, list[tuple[list[str], torch.Tensor]]()

    def see(self, ids: list[str], total: torch.Tensor) -> None:
        """Take note of a batch's loss."""
        self.settle()
        self._held.append((ids, total.detach()))

    def settle(self) -> None:
        """Look at all that was noted."""
        for ids, total in self._held:
            value = float(total)
            if not math.isfinite(value):
                shown = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
                raise TrainingError(
                    f"the loss is {value} in a batch of {shown}; look at these images and what is known of them, or "
                    "lower learning_rate"
                )
        self._held.clear()


class _Figures:
    """Means of the losses since the last report, and how fast it goes."""

    def __init__(self, config: LoopConfig, start: int) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._num_batches = self._num_images = 0
        self._since, self._step = time.perf_counter(), start

    def add(self, terms: dict[str, torch.Tensor], num_images: int) -> None:
        """Take in a batch."""
        for name, value in terms.items():
            held = self._sums.get(name)
            self._sums[name] = value.detach().double() if held is None else held + value.detach().double()
        self._num_batches += 1
        self._num_images += num_images

    def taken(self, step: int) -> dict[str, float]:
        """The figures, which begin anew."""
        now = time.perf_counter()
        means = {name: float(value) / self._num_batches for name, value in self._sums.items()}
        num_images = self._num_images * world_size()
        rates = {
            "images_per_second": num_images / max(now - self._since, 1e-9),
            "images_per_step": num_images / max(step - self._step, 1),
        }
        self._step = step
        self._sums, self._num_batches, self._num_images, self._since = {}, 0, 0, now
        return {"step": float(step)} | means | rates


class _Best:
    """Keeps the weights that validation finds best."""

    def __init__(self, task: Task, folder: RunFolder | None) -> None:
        self._metric, self._folder = task.best, folder
        held = folder.read_json("best.json") if folder is not None else None
        self._score = -math.inf if held is None else float(held["score"])

    def see(self, found: Summary, model: nn.Module, step: int) -> None:
        """Keep these where they are better than all before; every worker knows the same of them."""
        if self._folder is None or found.score(self._metric) <= self._score:
            return
        self._score = found.score(self._metric)
        write_weights(model, self._folder, BEST)
        if rank() == 0:
            self._folder.write_json("best.json", {"step": step, "score": self._score, "validation": found.values})
