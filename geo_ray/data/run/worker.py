"""What the workers of a bulk run do: they answer blocks by a graph, and commit them."""

import os
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from ray.util import metrics

from geo_ray.data.record.blocks import Block
from geo_ray.data.record.ledger import Ledger
from geo_ray.data.record.output_tables import feature_table, prediction_table
from geo_ray.data.record.prediction_files import count_problems, parquet_bytes
from geo_ray.data.run.block_reader import Images, packed
from geo_ray.data.run.coordinator import Announcer
from geo_ray.data.run.deaths import Attempt, Span, tries
from geo_ray.data.run.trace import note
from geo_ray.pipeline.columns import KILLS_WORKER, Batch, num_rows
from geo_ray.pipeline.graph import BuiltGraph, Graph
from geo_ray.pipeline.local import slices
from geo_ray.pipeline.stage import Runtime


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


def _timed(built: BuiltGraph, batch: Batch, seconds: dict[str, float]) -> Batch:
    answer, taken = built.timed(batch)
    for stage, more in taken.items():
        seconds[stage] += more
    return answer


class BlockAnswerer:
    """Answers blocks by a graph and commits them, in an actor; to make one loads the model.

    Of calls at a time one computes; others unpack their images or write their answers meanwhile.
    """

    def __init__(
        self,
        head: Graph,
        tail: Graph,
        runtime: Runtime,
        ledger: Ledger,
        rows_per_batch: int,
        features: bool,
        coordinator: Any,
    ) -> None:
        self._announcer = Announcer(coordinator=coordinator)
        self._head, self._tail = head.build(runtime), tail.build(runtime)
        self._ledger, self._rows_per_batch = ledger, rows_per_batch
        self._table = feature_table if features else prediction_table
        self._turn = threading.Lock()
        self._images = metrics.Counter("geo_ray_images", "Images answered, by problem", ("problem",))
        self._seconds = metrics.Counter("geo_ray_stage_seconds", "Seconds spent in each stage", ("stage",))

    def __call__(self, rows: pa.Table) -> pa.Table:
        """What became of the block in this row."""
        images: Images = pickle.loads(rows["images"][0].as_buffer())
        answered = Answered(block=images.block, failure=images.failure) if images.failure else self._answer(images)
        return packed("answered", answered)

    def _answer(self, images: Images) -> Answered:
        seconds: dict[str, float] = defaultdict(float, images.seconds)
        with self._turn:
            tables = self._tables(images, seconds)
        if tables is None:  # many blocks may wait, and the time until a node goes may be short
            return Answered(block=images.block)
        table = pa.concat_tables(tables) if tables else self._table(self._blank())
        start = time.perf_counter()
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

    def _tables(self, images: Images, seconds: dict[str, float]) -> list[pa.Table] | None:
        """The block's answers in order; None where the run is to end."""
        whole = (0, sum(num_rows(batch) for _, batch in images.batches))
        attempt = self._attempt(images, whole)
        told = self._announcer.begin(attempt)
        if told.stop:
            self._announcer.end(attempt)
            return None
        spans, blamed = tries(whole, told.died)
        for row in blamed:
            _leave_out(images, row)
        tables: dict[Span, list[pa.Table]] = {}
        for span in spans:
            if told.died:
                self._announcer.begin(self._attempt(images, span))
            tables[span] = [self._table(self._run(*batch, seconds)) for batch in self._parts(images, span)]
        self._announcer.end(attempt)
        return [table for span in sorted(tables) for table in tables[span]]

    def _attempt(self, images: Images, span: Span) -> Attempt:
        return Attempt(
            shard_id=images.block.shard_id,
            number=images.block.number,
            act="answering",
            span=span,
            process=self._announcer.process,
            label=images.label,
            first_row=images.first_row,
            image_id=_id_at(images, span[0]) if span[1] - span[0] == 1 else "",
        )

    def _parts(self, images: Images, span: Span) -> Iterator[tuple[bool, Batch]]:
        for decoded, batch in rows_of(images, span):
            for part in slices(batch, self._rows_per_batch):
                note("begun", images.block, len(part["image_id"]))
                yield decoded, part

    def _run(self, decoded: bool, batch: Batch, seconds: dict[str, float]) -> Batch:
        return _timed(self._tail, batch if decoded else _timed(self._head, batch, seconds), seconds)

    def _blank(self) -> Batch:
        """The answers of no images."""
        inputs = self._head.graph.inputs
        return self._tail(self._head({name: np.zeros(0, dtype=object) for name in inputs}))

    def _count(self, num_rows: int, problems: dict[str, int], seconds: dict[str, float]) -> None:
        for problem, count in (("", num_rows - sum(problems.values())), *problems.items()):
            self._images.inc(count, {"problem": problem or "none"}) if count else None
        for stage, taken in seconds.items():
            self._seconds.inc(taken, {"stage": stage}) if taken > 0 else None


def rows_of(images: Images, span: Span) -> Iterator[tuple[bool, Batch]]:
    """What the block's batches have of these rows."""
    start = 0
    for decoded, batch in images.batches:
        first, stop = max(span[0] - start, 0), min(span[1] - start, num_rows(batch))
        if first < stop:
            yield decoded, {name: column[first:stop] for name, column in batch.items()}
        start += num_rows(batch)


def _id_at(images: Images, row: int) -> str:
    ((_, batch),) = rows_of(images, (row, row + 1))
    return str(batch["image_id"][0])


def _leave_out(images: Images, row: int) -> None:
    """Give a row the problem of those that are not tried any more."""
    ((_, batch),) = rows_of(images, (row, row + 1))
    batch["problem"][:] = KILLS_WORKER
