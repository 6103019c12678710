"""Batches of a training table, streamed to the workers by Ray Data and gone on with where they were left.

The table's row groups are read in an order drawn anew each epoch, decoded by the graph's own stage on whatever CPUs are
free, and shared out equally. Each worker notes the rows it has taken; a run that goes on leaves those out, with
however many workers there are then, so that in an epoch no row is lost or seen twice.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import ray
import ray.data
from ray.data import Dataset

from geo_ray.errors import InputError
from geo_ray.remote.patience import be_patient
from geo_ray.train.config import LoopConfig
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder, complete_steps, read_streams
from geo_ray.train.table_reading import Reader, Reading, TrainingTable

C = TypeVar("C", bound=LoopConfig)
SPARE_BATCHES = 4  # of each worker beyond the last step: what lies in buffers when it ends


class Consumed:
    """Which rows of each epoch have been trained on."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self.rows: dict[int, np.ndarray] = {}

    def add(self, epochs: np.ndarray, rows: np.ndarray) -> None:
        """Take note of rows, each of its epoch."""
        for epoch in np.unique(epochs).tolist():
            self._of(epoch)[rows[epochs == epoch]] = True

    def _of(self, epoch: int) -> np.ndarray:
        return self.rows.setdefault(epoch, np.zeros(self._num_rows, bool))

    def state(self) -> dict[str, Any]:
        """As tensors, a bit a row."""
        import torch

        return {str(epoch): torch.from_numpy(np.packbits(rows)) for epoch, rows in self.rows.items()}

    def merge(self, state: dict[str, Any]) -> None:
        """Take in what another worker has noted."""
        for epoch, bits in state.items():
            seen = np.unpackbits(bits.numpy(), count=self._num_rows).astype(bool)
            self._of(int(epoch))[seen] = True


def left_of(table: TrainingTable, consumed: Consumed, seed: int, needed: int) -> list[dict[str, int]]:
    """Epoch and row group of what is to be read next, in order, until ``needed`` rows are there.

    What was begun comes before what is new; a row group of which all is taken is left out.
    """
    units, count, epoch = [], 0, 0
    while count < needed:
        order = np.random.default_rng((seed, epoch)).permutation(len(table.groups))
        taken = consumed.rows.get(epoch)
        for number in order.tolist():
            group = table.groups[number]
            rows = slice(group.first_row, group.first_row + group.num_rows)
            left = group.num_rows - (0 if taken is None else int(taken[rows].sum()))
            if left:
                units.append({"epoch": epoch, "group": number})
                count += left
        epoch += 1
    return units


class TableStream:
    """This worker's batches of a table, as dicts of arrays by column, all of one size."""

    def __init__(
        self,
        reading: Reading,
        batch_size: int,
        shuffled_rows: int,
        states: Sequence[dict[str, Any]],
        shard: Any,
    ) -> None:
        self._reading, self._batch_size, self._shuffled, self._shard = reading, batch_size, shuffled_rows, shard
        self._consumed = Consumed(reading.table.num_rows)
        for state in states if rank() == 0 else ():  # one worker holds what all had taken before
            self._consumed.merge(state)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        batches = self._shard.iter_batches(
            batch_size=self._batch_size,
            batch_format="numpy",
            drop_last=True,
            prefetch_batches=2,
            local_shuffle_buffer_size=self._shuffled or None,
            local_shuffle_seed=self._reading.seed * 1000 + rank(),
        )
        for batch in batches:
            self._consumed.add(batch["epoch"], batch["row"])
            yield batch

    def state(self) -> dict[str, Any]:
        """The rows that this worker has taken."""
        return self._consumed.state()


def batch_sizes(batch_size: int, accumulation: int) -> int:
    """How many rows a worker takes at a time, of a batch that all take together in ``accumulation`` parts."""
    size = batch_size // (world_size() * accumulation)
    if size < 1:
        raise InputError(
            f"batch_size={batch_size} is less than a row for each of {world_size()} workers and {accumulation} parts"
        )
    return size


def with_steps(config: C, num_rows: int) -> C:
    """The configuration with as many steps as its epochs have, where it has epochs."""
    epochs, batch_size = getattr(config, "epochs", 0.0), getattr(config, "batch_size", 1)
    if epochs <= 0:
        return config
    return dataclasses.replace(config, num_steps=max(1, round(epochs * num_rows / batch_size)))


def rows_needed(num_steps: int, batch_size: int, most_workers: int, accumulation: int) -> int:
    """How many rows a run needs from its start, with what may lie in buffers when it ends."""
    spare = SPARE_BATCHES * math.ceil(batch_size / accumulation)
    return num_steps * batch_size + spare * max(1, most_workers)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What Ray Train calls whenever workers start, so that each time the data go on where they were left."""

    reading: Reading
    folder: RunFolder
    needed: int  # rows in all, from the run's start

    def __call__(self) -> Dataset:
        """The rows that are needed from the last checkpoint on."""
        table = self.reading.table
        consumed = Consumed(table.num_rows)
        steps = complete_steps(self.folder)
        for state in read_streams(self.folder, steps[-1]) if steps else []:
            consumed.merge(state)
        done = sum(int(rows.sum()) for rows in consumed.rows.values())
        units = left_of(table, consumed, self.reading.seed, max(1, self.needed - done))
        be_patient()
        rows = ray.data.from_items(units, override_num_blocks=len(units))
        reader = Reader(reading=self.reading, consumed=ray.put(consumed.rows))
        return rows.map_batches(reader, batch_size=1, batch_format="pyarrow")
