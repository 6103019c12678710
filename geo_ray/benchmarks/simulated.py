"""What stands for reading and for GPUs in a simulated run. Light to import: many processes do it on one machine."""

import os
import time
from collections.abc import Iterator
from functools import lru_cache
from queue import SimpleQueue

import pyarrow as pa

from geo_ray.data.record.blocks import Block
from geo_ray.data.run.block_reader import MAX_SHARDS_PER_TASK, Images
from geo_ray.data.run.transport import packed, unpacked
from geo_ray.data.sources import Row
from geo_ray.data.sources.rows import batch_of

ROWS = 2000  # of a block
BLOCKS_PER_SHARD = 4
NUM_BYTES = 64  # of an image


def list_simulated(start: pa.Table, num_shards: int) -> Iterator[pa.Table]:
    """A row for each reading task."""
    for number in range(0, num_shards, MAX_SHARDS_PER_TASK):
        yield packed("shards", [f"{one:020x}" for one in range(number, min(number + MAX_SHARDS_PER_TASK, num_shards))])


def read_simulated(rows: pa.Table) -> Iterator[pa.Table]:
    """A row for each block of the shards in this row; the images are those of all other blocks."""
    for _ in unpacked(rows):
        for _ in range(BLOCKS_PER_SHARD):
            yield packed("images", _images())


@lru_cache(maxsize=1)
def _images() -> Images:
    """A block whose ids and addresses are as long as real ones."""
    names = [f"2024/000000/{row:04d}-4f1c2a9e7b.jpg" for row in range(ROWS)]
    rows = [Row(name, (f"s3://bucket-of-photos/{name}",), (bytes(NUM_BYTES),)) for name in names]
    return Images(block=Block("0" * 20, 0, last=False), batches=((0, batch_of(rows, 1)),))


class SleepingWorker:
    """GPUs that take their time, several in a process."""

    def __init__(self, num_gpus: int, images_per_second: float) -> None:
        self._rate = images_per_second
        self._free: SimpleQueue[int] = SimpleQueue()
        for gpu in range(num_gpus):
            self._free.put(gpu)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """When the block in this row was begun and done, and by which GPU."""
        gpu = self._free.get()
        begun = time.time()
        time.sleep(ROWS / self._rate)
        done = time.time()
        self._free.put(gpu)
        return pa.table({"gpu": [f"{os.getpid()}-{gpu}"], "begun": [begun], "done": [done]})
