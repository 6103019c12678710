"""What the workers of a bulk run do: they encode blocks, answer them by a graph, and commit them."""

import os
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from ray.util import metrics

from geo_ray.data.record.blocks import Block
from geo_ray.data.record.ledger import Ledger
from geo_ray.data.record.output_tables import feature_table, prediction_table
from geo_ray.data.record.prediction_files import count_problems, parquet_bytes
from geo_ray.data.run.block_reader import Images
from geo_ray.data.run.coordinator import Announcer
from geo_ray.data.run.deaths import Act, Attempt, Span, tries
from geo_ray.data.run.trace import note
from geo_ray.data.run.transport import packed, unpacked
from geo_ray.pipeline.columns import KILLS_WORKER, Batch, num_rows
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.local import slices
from geo_ray.pipeline.stage import Runtime

ENCODED = 2  # parts of the graph that are done when images are encoded


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What became of a block: how many rows, of which so many have each problem, and seconds by what was done.

    One that was not begun any more, as the run is to end, has no rows, and no time at which it was done.
    ``failure`` is why a shard couldn't be read; its block is not written then.
    """

    block: Block
    num_rows: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    worker: int = 0
    done_at: float = 0.0
    failure: str = ""


class BlockWorker:
    """Runs some parts of the graph on blocks, in an actor.

    ``parts`` are all of the graph, ``own`` the numbers of those that it runs; to make one loads them. Calls overlap; on
    a CPU one computes at a time, on a GPU one's copies go on beside another's computing.
    """

    act: Act

    def __init__(
        self, parts: tuple[Graph, ...], own: range, runtime: Runtime, rows_per_batch: int, coordinator: Any
    ) -> None:
        self._announcer = Announcer(coordinator=coordinator)
        self._parts, self._own, self._rows_per_batch = parts, own, rows_per_batch
        runtime = replace(runtime, micro_batch_by=self._announcer.micro_batch, say=self._announcer.say)
        self._built = {number: parts[number].build(runtime) for number in own}
        self._turn = threading.Lock() if runtime.device == "cpu" else nullcontext()

    def _answers(self, images: Images, seconds: dict[str, float]) -> list[Batch] | None:
        """What the parts answer for the block, in order; None where the run is to end."""
        with self._turn:
            whole = (0, sum(num_rows(batch) for _, batch in images.batches))
            attempt = self._attempt(images, whole)
            told = self._announcer.begin(attempt)
            if told.stop:
                self._announcer.end(attempt)
                return None
            spans, blamed = tries(whole, told.died)
            for row in blamed:
                _leave_out(images, row)
            answers: dict[Span, list[Batch]] = {}
            for span in spans:
                if told.died:
                    self._announcer.begin(self._attempt(images, span))
                answers[span] = [self._run(*batch, seconds) for batch in self._batches(images, span)]
            self._announcer.end(attempt)
        return [batch for span in sorted(answers) for batch in answers[span]]

    def _travelling(self, images: Images) -> pa.Table:
        """The block on its way to those who do the parts that come after."""
        if images.failure or images.dropped:
            return packed("images", images)
        seconds: dict[str, float] = defaultdict(float, images.seconds)
        answers = self._answers(images, seconds)
        if answers is None:
            return packed("images", replace(images, batches=(), dropped=True))
        batches = tuple((self._own.stop, batch) for batch in answers)
        return packed("images", replace(images, batches=batches, seconds=dict(seconds)))

    def _attempt(self, images: Images, span: Span) -> Attempt:
        return Attempt(
            shard_id=images.block.shard_id,
            number=images.block.number,
            act=self.act,
            span=span,
            process=self._announcer.process,
            label=images.label,
            first_row=images.first_row,
            image_id=_id_at(images, span[0]) if span[1] - span[0] == 1 else "",
        )

    def _batches(self, images: Images, span: Span) -> Iterator[tuple[int, Batch]]:
        for parts, batch in rows_of(images, span):
            for piece in slices(batch, self._rows_per_batch):
                if ENCODED - 1 in self._own:
                    note("begun", images.block, len(piece["image_id"]))
                yield parts, piece

    def _run(self, done: int, batch: Batch, seconds: dict[str, float]) -> Batch:
        for number in range(done, self._own.stop):
            batch, taken = self._built[number].timed(batch)
            for stage, more in taken.items():
                seconds[stage] += more
        return batch


class BlockDecoder(BlockWorker):
    """Decodes blocks, in tasks: pixels travel on."""

    act: Act = "decoding"

    def __init__(self, head: Graph, rows_per_batch: int, coordinator: Any) -> None:
        super().__init__((head,), range(0, 1), Runtime(), rows_per_batch, coordinator)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The block in this row, with pixels in place of files."""
        return self._travelling(unpacked(rows))


class BlockEncoder(BlockWorker):
    """Encodes blocks whose answers are found elsewhere: their image features travel on."""

    act: Act = "encoding"

    def __init__(self, parts: tuple[Graph, ...], runtime: Runtime, rows_per_batch: int, coordinator: Any) -> None:
        super().__init__(parts, range(0, ENCODED), runtime, rows_per_batch, coordinator)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The block in this row, with features in place of images."""
        return self._travelling(unpacked(rows))


class BlockAnswerer(BlockWorker):
    """Answers blocks by the parts of the graph that are left to it, from ``first`` on, and commits them."""

    act: Act = "answering"

    def __init__(
        self,
        parts: tuple[Graph, ...],
        first: int,
        runtime: Runtime,
        ledger: Ledger,
        rows_per_batch: int,
        features: bool,
        coordinator: Any,
    ) -> None:
        super().__init__(parts, range(first, len(parts)), runtime, rows_per_batch, coordinator)
        self._ledger = ledger
        self._table = feature_table if features else prediction_table
        self._images = metrics.Counter("geo_ray_images", "Images answered, by problem", ("problem",))
        self._seconds = metrics.Counter("geo_ray_stage_seconds", "Seconds spent in each stage", ("stage",))

    def __call__(self, rows: pa.Table) -> pa.Table:
        """What became of the block in this row."""
        images: Images = unpacked(rows)
        if images.dropped:
            return packed("answered", Answered(block=images.block))
        answered = Answered(block=images.block, failure=images.failure) if images.failure else self._answer(images)
        return packed("answered", answered)

    def _answer(self, images: Images) -> Answered:
        seconds: dict[str, float] = defaultdict(float, images.seconds)
        answers = self._answers(images, seconds)
        if answers is None:  # many blocks may wait, and the time until a node goes may be short
            return Answered(block=images.block)
        start = time.perf_counter()
        tables = [self._table(batch) for batch in answers or [self._parts[-1].blank(0)]]
        table = pa.concat_tables(tables)
        self._ledger.commit(images.block, parquet_bytes(table))
        note("committed", images.block, len(table))
        seconds["write"] += time.perf_counter() - start
        problems = count_problems(table)
        self._count(len(table), problems, seconds)
        return Answered(
            block=images.block,
            num_rows=len(table),
            problems=problems,
            seconds=dict(seconds),
            worker=os.getpid(),
            done_at=time.time(),
        )

    def _count(self, num_rows: int, problems: dict[str, int], seconds: dict[str, float]) -> None:
        for problem, count in (("", num_rows - sum(problems.values())), *problems.items()):
            self._images.inc(count, {"problem": problem or "none"}) if count else None
        for stage, taken in seconds.items():
            self._seconds.inc(taken, {"stage": stage}) if taken > 0 else None


def decode_blocks(rows: pa.Table, head: bytes, rows_per_batch: int, coordinator: Any) -> pa.Table:
    """The block in this row, decoded by the pickled graph; a task."""
    return BlockDecoder(pickle.loads(head), rows_per_batch, coordinator)(rows)


def rows_of(images: Images, span: Span) -> Iterator[tuple[int, Batch]]:
    """What the block's batches have of these rows."""
    start = 0
    for parts, batch in images.batches:
        first, stop = max(span[0] - start, 0), min(span[1] - start, num_rows(batch))
        if first < stop:
            yield parts, {name: column[first:stop] for name, column in batch.items()}
        start += num_rows(batch)


def _id_at(images: Images, row: int) -> str:
    ((_, batch),) = rows_of(images, (row, row + 1))
    return str(batch["image_id"][0])


def _leave_out(images: Images, row: int) -> None:
    """Give a row the problem of those that are not tried any more."""
    ((_, batch),) = rows_of(images, (row, row + 1))
    batch["problem"][:] = KILLS_WORKER
