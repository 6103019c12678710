"""What feeds the workers of a bulk run: shards are listed, and read as blocks of images.

A block travels as one row of Ray Data, so that nothing can divide it, and its images as bytes of a list of batches.
Light to import: each process that reads does it anew.
"""

import itertools
import pickle
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import ray

from geo_ray.data.record.blocks import Block, Done
from geo_ray.data.record.ledger import Ledger
from geo_ray.data.run.coordinator import told_to_stop
from geo_ray.data.run.trace import note
from geo_ray.data.sources import Row, Shard, SourceOptions, batches, open_sources
from geo_ray.data.sources.containers import ContainerShard
from geo_ray.pipeline.columns import Batch
from geo_ray.remote_files import Verdict, judge

MAX_RAW_BYTES = 64 * 2**20  # of a block's image files; of larger ones pixels travel, whose size is known
MAX_PIXEL_BYTES = 96 * 2**20  # of a block
MAX_ROWS = 512  # of a block
READ_TRIES = 3  # of a shard that can't be opened
SHARDS_PER_REPORT = 16
# Ray Data comes for what a task has ready some eight times a second and takes two rows: with a shard in each, listing
# would hold a large cluster to 16 shards a second. A short listing has single ones, so that all readers have some.
MAX_SHARDS_PER_TASK = 8
SHARDS_ALONE = 256


@dataclass(frozen=True, kw_only=True)
class Images:
    """A block's images on their way to a worker: batches, each before decoding or (``decoded``) after it."""

    block: Block
    batches: tuple[tuple[bool, Batch], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""


def rows_per_block(pixel_bytes: int, micro_batch: int, num_rows: int | None = None) -> int:
    """How many rows a block has at most, given the bytes of an item's pixels; few inputs make more, smaller blocks.

    A multiple of what the encoder takes at a time where it is not less than that, as it computes for full ones.
    """
    most = max(1, min(MAX_ROWS, MAX_PIXEL_BYTES // pixel_bytes))
    rows = most if num_rows is None else min(most, max(16, num_rows // 16))
    return rows if rows < micro_batch else rows - rows % micro_batch


class _Ahead(Iterator[Row | None]):
    """Rows, and whether there are more."""

    def __init__(self, rows: Iterator[Row | None]) -> None:
        self._rows = rows
        self._next = list(itertools.islice(rows, 1))

    def __next__(self) -> Row | None:
        if not self._next:
            raise StopIteration
        (row,), self._next = self._next, list(itertools.islice(self._rows, 1))
        return row

    @property
    def ended(self) -> bool:
        """Whether there are no more."""
        return not self._next


@dataclass(frozen=True, kw_only=True)
class BlockReader:
    """Reads shards as blocks; images are decoded here too with ``decode_apart``, or where their files are large."""

    head: bytes  # the graph of decoding, pickled: to unpickle it imports torch, and most blocks are not decoded here
    num_views: int
    rows_per_block: int
    rows_per_batch: int
    decode_apart: bool = False

    def blocks(self, shard: Shard, done: frozenset[int]) -> Iterator[Images]:
        """The shard's blocks but those that are done; one with a ``failure`` where the shard can't be read."""
        for number in range(1, READ_TRIES + 1):
            try:
                for images in self._blocks(shard, done):
                    yield images
                    done |= {images.block.number}
                return
            except Exception as error:
                verdict = judge(error)
                if verdict is Verdict.BUG:
                    raise
                if number == READ_TRIES:
                    block = Block(shard.shard_id, 0, last=False)
                    yield Images(block=block, failure=f"{shard.label}: {' '.join(str(error).split())}")
                else:
                    time.sleep(2.0**number)

    def _blocks(self, shard: Shard, done: frozenset[int]) -> Iterator[Images]:
        rows = _Ahead(shard.rows_but(lambda number: number // self.rows_per_block in done))
        for number in itertools.count():
            start, here = time.perf_counter(), itertools.islice(rows, self.rows_per_block)
            packed: tuple[tuple[bool, Batch], ...] = ()
            seconds: dict[str, float] = {}
            if number in done:
                for _ in here:
                    pass
            else:
                packed, seconds = self._pack(row for row in here if row is not None)
                seconds["read"] = time.perf_counter() - start - sum(seconds.values())
            block = Block(shard.shard_id, number, last=rows.ended)
            if number not in done:
                note("read", block, sum(len(batch["image_id"]) for _, batch in packed))
                yield Images(block=block, batches=packed, seconds=seconds)
            if block.last:
                return

    def _pack(self, rows: Iterator[Row]) -> tuple[tuple[tuple[bool, Batch], ...], dict[str, float]]:
        held: list[tuple[bool, Batch]] = []
        seconds: dict[str, float] = defaultdict(float)
        size = 0
        for batch in batches(rows, self.num_views, self.rows_per_batch, MAX_RAW_BYTES):
            size += _num_bytes(batch)
            held.append((False, batch))
            if self.decode_apart or size > MAX_RAW_BYTES:
                held = [pair if pair[0] else (True, self._decode(pair[1], seconds)) for pair in held]
        return tuple(held), dict(seconds)

    def _decode(self, batch: Batch, seconds: dict[str, float]) -> Batch:
        answer: Batch
        answer, taken = _opened(self.head).timed(batch)
        for stage, more in taken.items():
            seconds[stage] += more
        return answer


@lru_cache(maxsize=1)
def _opened(graph: bytes) -> Any:
    from geo_ray.pipeline.stage import Runtime

    return pickle.loads(graph).build(Runtime())


def _num_bytes(batch: Batch) -> int:
    columns = (column for name, column in batch.items() if name.startswith("bytes"))
    return sum(len(content) for column in columns for content in column if content is not None)


def list_shards(
    start: pa.Table, inputs: tuple[str, ...], options: SourceOptions, ledger: Ledger, coordinator: Any
) -> Iterator[pa.Table]:
    """A row for each reading task: shards that aren't done, with the numbers of their blocks that are.

    A task, one for the run.
    """
    ray.get(coordinator.begin.remote())
    done, held, num_listed = ledger.done(), list[Shard](), 0
    sources = open_sources(inputs, options)
    for shard in sources.shards():
        held.append(shard)
        if len(held) == SHARDS_PER_REPORT:
            if not _report(held, coordinator, complete=False):
                return
            num_listed += len(held)
            yield from _undone(held, done, 1 if num_listed <= SHARDS_ALONE else MAX_SHARDS_PER_TASK)
            held = []
    ray.get(coordinator.leave_out.remote("", sources.left_out))
    if _report(held, coordinator, complete=True):
        yield from _undone(held, done, 1)


def _report(shards: list[Shard], coordinator: Any, complete: bool) -> bool:
    counts = [(shard.shard_id, shard.num_rows) for shard in shards]
    return bool(ray.get(coordinator.report.remote(counts, complete)))


def _undone(shards: list[Shard], done: Done, per_task: int) -> Iterator[pa.Table]:
    left = ((shard, done.numbers(shard.shard_id)) for shard in shards if not done.whole(shard.shard_id))
    while group := list(itertools.islice(left, per_task)):
        yield packed("shards", group)


def read_blocks(rows: pa.Table, reader: BlockReader, coordinator: Any) -> Iterator[pa.Table]:
    """A row for each block of the shards in this row; a task."""
    for shard, done in pickle.loads(rows["shards"][0].as_buffer()):
        for images in reader.blocks(shard, done):
            if told_to_stop(coordinator):
                return
            yield packed("images", images)
        if isinstance(shard, ContainerShard) and shard.left_out:
            ray.get(coordinator.leave_out.remote(shard.shard_id, dict(shard.left_out)))


def packed(name: str, value: Any) -> pa.Table:
    """A row that holds a value under this name."""
    return pa.table({name: pa.array([pickle.dumps(value, protocol=5)], pa.large_binary())})
