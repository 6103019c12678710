"""Files of predictions are written by tasks, a few at a time, while the driver goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayTaskError

from geo_ray.data.record.blocks import Block
from geo_ray.data.record.entries import FileEntry
from geo_ray.data.record.prediction_files import Inventory, Segment, Settler, write_file
from geo_ray.errors import GeoRayError

FILES_AT_ONCE = 4  # each takes some 0.1 GB of predictions in memory, of features some 0.5 GB
TASK = {"num_cpus": 0, "max_retries": -1, "scheduling_strategy": "SPREAD"}  # it waits for the store, not for a CPU


class BackgroundSettler:
    """Has files written of blocks whose parts are there, while the run goes on, and notes them in the inventory.

    What a task has raised is raised by what is called next: ``OutputError``. So is what ``before_change`` raises, which
    is called before anything in the record is changed.
    """

    def __init__(self, inventory: Inventory, before_change: Callable[[], None]) -> None:
        self._inventory, self._before_change = inventory, before_change
        self._settler = Settler(self._begin)
        self._task = ray.remote(**TASK)(write_file)
        self._running: list[Any] = []

    def add(self, block: Block) -> None:
        """A block's part has been written, and the inventory knows of it."""
        self._settler.add(block, self._inventory.done.whole(block.shard_id))
        self._note(self._ended(len(self._running)))

    def finish(self) -> None:
        """Wait until all files that were begun are written and noted."""
        self._note(self._ended(0))

    def write_all(self, groups: list[list[Segment]]) -> Iterator[FileEntry]:
        """Write a file for each group; what is to be noted of them, as they come."""
        for segments in groups:
            yield from self._ended(FILES_AT_ONCE - 1)
            self._running.append(self._task.remote(self._inventory.ledger, segments))
        yield from self._ended(0)

    def _begin(self, segments: list[Segment]) -> None:
        self._note(self._ended(FILES_AT_ONCE - 1))
        self._running.append(self._task.remote(self._inventory.ledger, segments))

    def _note(self, entries: list[FileEntry]) -> None:
        for entry in entries:
            self._before_change()
            self._inventory.add(entry)

    def _ended(self, most: int) -> list[FileEntry]:
        """The entries of tasks that have ended; waits until at most so many run."""
        entries: list[FileEntry] = []
        while len(self._running) > most:
            ended, self._running = ray.wait(self._running, num_returns=len(self._running) - most)
            entries += _results(ended)
        if self._running:
            ended, self._running = ray.wait(self._running, num_returns=len(self._running), timeout=0)
            entries += _results(ended)
        return entries


def _results(ended: list[Any]) -> list[FileEntry]:
    try:
        results: list[FileEntry] = ray.get(ended)
    except RayTaskError as error:
        if isinstance(error.cause, GeoRayError):
            raise error.cause from error
        raise
    return results
