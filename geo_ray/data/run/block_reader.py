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
from geo_ray.data.run.coordinator import Announcer
from geo_ray.data.run.deaths import READS, Act, Attempt, Span, Told, tries
from geo_ray.data.run.trace import note
from geo_ray.data.run.transport import packed, unpacked
from geo_ray.data.sources import Row, Shard, SourceOptions, batches, open_sources
from geo_ray.data.sources.containers import ContainerShard
from geo_ray.pipeline.columns import KILLS_WORKER, Batch, num_rows
from geo_ray.remote_files import Verdict, judge

MAX_RAW_BYTES = 64 * 2**20  # of a block's image files; of larger ones pixels travel, whose size is known
MAX_RAW_BYTES_APART = 192 * 2**20  # where tasks decode, who are to have it all
MAX_RAW_BYTES_TO_GPU = 2**30  # where GPUs do: files of 2 MB on average, of 4 MB in the smaller blocks of --decode gpu
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
    """A block's images on their way to a worker: batches, each with how many parts of the graph have seen it.

    ``label`` is that of their shard, ``first_row`` the first one's number in it. Of one that was ``dropped``, as the
    run is to end, nothing is known.
    """

    block: Block
    label: str = ""
    first_row: int = 0
    batches: tuple[tuple[int, Batch], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    dropped: bool = False


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


_Held = tuple[int, int, Batch]  # the number of its first row in the block, how many parts have seen it, and a batch


class _Watch:
    """Says what a reading task is about to do with a block: once, and step by step where a process has died of it."""

    def __init__(self, announcer: Announcer | None, shard: Shard, number: int, first_row: int) -> None:
        self.first_row = first_row
        self._announcer, self._shard, self._number = announcer, shard, number
        self.told = self._say("reading", (0, 0))
        self.careful = bool(self.told.died or self.told.num_read)

    def reading(self, row: int) -> None:
        """What comes from this row of the block on is read."""
        if self.careful:
            self._say("reading", (row, row))

    def decoding(self, span: Span, batch: Batch) -> None:
        """These rows are decoded."""
        if self.careful:
            self._say("decoding early", span, str(batch["image_id"][0]) if span[1] - span[0] == 1 else "")

    def end(self) -> None:
        """Nothing more is done with the block here."""
        if self._announcer is not None:
            self._announcer.end(self._attempt("reading", (0, 0)))

    def _say(self, act: Act, span: Span, image_id: str = "") -> Told:
        return Told() if self._announcer is None else self._announcer.begin(self._attempt(act, span, image_id))

    def _attempt(self, act: Act, span: Span, image_id: str = "") -> Attempt:
        assert self._announcer is not None
        return Attempt(
            shard_id=self._shard.shard_id,
            number=self._number,
            act=act,
            span=span,
            process=self._announcer.process,
            label=self._shard.label,
            first_row=self.first_row,
            image_id=image_id,
        )


def _failed(shard: Shard, why: str) -> Images:
    return Images(block=Block(shard.shard_id, 0, last=False), failure=f"{shard.label}: {why}")


@dataclass(frozen=True, kw_only=True)
class BlockReader:
    """Reads shards as blocks; of those with more than ``max_raw_bytes`` of files, the rest is decoded here too."""

    head: bytes  # the graph of decoding, pickled: most blocks aren't decoded here, and its imports take long
    num_views: int
    rows_per_block: int
    rows_per_batch: int
    max_raw_bytes: int = MAX_RAW_BYTES

    def blocks(self, shard: Shard, done: frozenset[int], announcer: Announcer | None = None) -> Iterator[Images]:
        """The shard's blocks but those that are done; one with a ``failure`` where the shard can't be read.

        Each is announced before it is read; none follow when the run is to end.
        """
        for number in range(1, READ_TRIES + 1):
            try:
                for images in self._blocks(shard, done, announcer):
                    yield images
                    done |= {images.block.number}
                return
            except Exception as error:
                if judge(error) is Verdict.BUG:
                    raise
                if number == READ_TRIES:
                    yield _failed(shard, " ".join(str(error).split()))
                else:
                    time.sleep(2.0**number)

    def _blocks(self, shard: Shard, done: frozenset[int], announcer: Announcer | None) -> Iterator[Images]:
        rows: _Ahead | None = None
        for number in itertools.count():
            watch = _Watch(announcer, shard, number, number * self.rows_per_block)
            if watch.told.stop:
                return
            if watch.told.num_read >= READS:
                yield _failed(
                    shard, f"{READS} times the process ended that read it from image {watch.first_row + 1} on"
                )
                return
            start = time.perf_counter()
            rows = rows or _Ahead(shard.rows_but(lambda number: number // self.rows_per_block in done))
            here = itertools.islice(rows, self.rows_per_block)
            held: tuple[tuple[int, Batch], ...] = ()
            seconds: dict[str, float] = {}
            if number in done:
                for _ in here:
                    pass
            else:
                held, seconds = self._pack((row for row in here if row is not None), watch)
                seconds["read"] = time.perf_counter() - start - sum(seconds.values())
            block = Block(shard.shard_id, number, last=rows.ended)
            watch.end()
            if number not in done:
                note("read", block, sum(len(batch["image_id"]) for _, batch in held))
                yield Images(block=block, label=shard.label, first_row=watch.first_row, batches=held, seconds=seconds)
            if block.last:
                return

    def _pack(self, rows: Iterator[Row], watch: "_Watch") -> tuple[tuple[tuple[int, Batch], ...], dict[str, float]]:
        held: list[_Held] = []
        seconds: dict[str, float] = defaultdict(float)
        size = num_read = 0
        for batch in batches(rows, self.num_views, self.rows_per_batch, self.max_raw_bytes):
            size += _num_bytes(batch)
            held.append((num_read, 0, batch))
            num_read += num_rows(batch)
            if size > self.max_raw_bytes:
                held = [piece for one in held for piece in self._decoded(one, watch, seconds)]
                watch.reading(num_read)
        return tuple((parts, batch) for _, parts, batch in held), dict(seconds)

    def _decoded(self, held: "_Held", watch: "_Watch", seconds: dict[str, float]) -> "list[_Held]":
        """A batch after decoding; in pieces that are announced, where a process has died of its block."""
        start, parts, batch = held
        if parts:
            return [held]
        whole = (start, start + num_rows(batch))
        spans, blamed = tries(whole, watch.told.died, divide=True) if watch.careful else ([whole], [])
        batch["problem"][[row - start for row in blamed]] = KILLS_WORKER
        pieces = []
        for first, stop in spans:
            piece = {name: column[first - start : stop - start] for name, column in batch.items()}
            watch.decoding((first, stop), piece)
            pieces.append((first, 1, self._decode(piece, seconds)))
        return sorted(pieces, key=lambda piece: piece[0])

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
    start: pa.Table, inputs: tuple[str, ...], options: SourceOptions, done: Any, coordinator: Any
) -> Iterator[pa.Table]:
    """A row for each reading task: shards that aren't ``done``, with the numbers of their blocks that are.

    A task, one for a pass. ``done`` refers to a ``Done`` in Ray's object store.
    """
    ray.get(coordinator.begin.remote())
    known, held, num_listed = ray.get(done), list[Shard](), 0
    sources = open_sources(inputs, options)
    for shard in sources.shards():
        held.append(shard)
        if len(held) == SHARDS_PER_REPORT:
            if not _report(held, coordinator, complete=False):
                return
            num_listed += len(held)
            yield from _undone(held, known, 1 if num_listed <= SHARDS_ALONE else MAX_SHARDS_PER_TASK)
            held = []
    ray.get(coordinator.leave_out.remote("", sources.left_out))
    if _report(held, coordinator, complete=True):
        yield from _undone(held, known, 1)


def _report(shards: list[Shard], coordinator: Any, complete: bool) -> bool:
    counts = [(shard.shard_id, shard.num_rows) for shard in shards]
    return bool(ray.get(coordinator.report.remote(counts, complete)))


def _undone(shards: list[Shard], done: Done, per_task: int) -> Iterator[pa.Table]:
    left = ((shard, done.numbers(shard.shard_id)) for shard in shards if not done.whole(shard.shard_id))
    while group := list(itertools.islice(left, per_task)):
        yield packed("shards", group)


def read_blocks(rows: pa.Table, reader: BlockReader, coordinator: Any) -> Iterator[pa.Table]:
    """A row for each block of the shards in this row; a task."""
    announcer = Announcer(coordinator=coordinator)
    for shard, done in unpacked(rows):
        for images in reader.blocks(shard, done, announcer):
            yield packed("images", images)
        if isinstance(shard, ContainerShard) and shard.left_out:
            ray.get(coordinator.leave_out.remote(shard.shard_id, dict(shard.left_out)))
