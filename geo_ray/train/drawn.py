"""Batches that a worker draws and renders itself, without end."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch

B = TypeVar("B")


class DrawnStream(Generic[B]):
    """What ``draw`` makes of this worker's random numbers, again and again.

    ``states`` are those of all workers at a checkpoint. Where they were as many as now, each goes on with its own, as
    if nothing had happened; where not, all draw anew.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, torch.Generator], B],
        seed: int,
        rank: int,
        states: Sequence[dict[str, Any]] = (),
        num_workers: int = 1,
    ) -> None:
        self._draw = draw
        again = (len(states),) if states and len(states) != num_workers else ()
        self._rng = np.random.default_rng((seed, rank, *again))
        self._generator = torch.Generator().manual_seed(seed * 1000 + rank + 500 * len(again))
        if len(states) == num_workers:
            self._rng.bit_generator.state = json.loads(states[rank]["numpy"])
            self._generator.set_state(states[rank]["torch"])

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        return self._draw(self._rng, self._generator)

    def state(self) -> dict[str, Any]:
        """Where both sources of random numbers are."""
        return {"numpy": json.dumps(self._rng.bit_generator.state), "torch": self._generator.get_state()}
