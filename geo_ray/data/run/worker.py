"""The workers of a bulk run: they answer blocks by a graph, and commit them."""

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
from geo_ray.data.run.coordinator import told_to_stop
from geo_ray.data.run.trace import note
from geo_ray.pipeline.columns import Batch
from geo_ray.pipeline.graph import BuiltGraph, Graph
from geo_ray.pipeline.local import slices
from geo_ray.pipeline.stage import Runtime


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What became of a block: how many rows, of which so many have each problem, and seconds by what was done.

    One that was not begun any more, as the run is to end, has no rows.
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
    """Answers blocks by a graph and commits them, in an actor.

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
        self._head, self._tail = head.build(runtime), tail.build(runtime)
        self._coordinator = coordinator
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
            if told_to_stop(self._coordinator):  # many blocks may wait, and the time until a node goes may be short
                return Answered(block=images.block)
            tables = [self._table(self._run(*batch, seconds)) for batch in self._parts(images)]
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

    def _parts(self, images: Images) -> Iterator[tuple[bool, Batch]]:
        for decoded, batch in images.batches:
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
