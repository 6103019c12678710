"""What a training run learns, and on what: the two things that its loop is given."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn


@runtime_checkable
class Stream(Protocol):
    """This worker's batches, which can be gone on with where they were left."""

    def __iter__(self) -> Iterator[Any]:
        """The batches, in order."""

    def state(self) -> dict[str, Any]:
        """How far the batches are, as tensors, numbers and texts."""


@runtime_checkable
class Task(Protocol):
    """What is learned: a model, and the losses of a batch."""

    model: nn.Module
    best: str  # the metric of ``validate`` by which a model is the best, the largest or with "-" before it the smallest

    def losses(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """The losses of this worker's batch by name; ``total`` is what the steps go down.

        ``model`` is the task's own, as it runs over the workers. The mean of ``total`` over workers is that of the
        joint batch.
        """

    def ids(self, batch: Any) -> list[str]:
        """What the batch is of, for messages."""

    def validate(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Metrics, each with a value for each of this worker's share of the validation images; ``place`` is where."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What validation found: by place, the mean of a metric, or the median where its name ends with ``_km``."""

    values: dict[str, float]

    @classmethod
    def of(cls, found: dict[str, np.ndarray]) -> "Summary":
        """Of the values of all workers' images; every place has one vote."""
        if not found or not len(next(iter(found.values()))):
            return cls(values={})
        places = found.get("place")
        counts = np.ones(len(next(iter(found.values()))))
        if places is not None:
            _, place, count = np.unique(places, return_inverse=True, return_counts=True)
            counts = 1 / count[place]
        values = {name: _summed(name, value, counts) for name, value in found.items() if name != "place"}
        return cls(values=values | {"num_images": float(len(counts))})

    def score(self, best: str) -> float:
        """What ``best`` says of it: larger is better; below all where it isn't there."""
        sign = -1.0 if best.startswith("-") else 1.0
        return sign * self.values[best.lstrip("-")] if best.lstrip("-") in self.values else -np.inf


def _summed(name: str, values: np.ndarray, weights: np.ndarray) -> float:
    known = ~np.isnan(values)
    values, weights = values[known], weights[known]
    if not len(values):
        return float("nan")
    if not name.endswith("_km"):
        return float((values * weights).sum() / weights.sum())
    order = np.argsort(values)
    half = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(values[order][min(half, len(order) - 1)])
