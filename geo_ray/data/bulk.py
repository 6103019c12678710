"""The bulk pipeline on Ray Data: list shards -> read blocks -> answer and commit them.

Each pass answers what is not done yet. What a pass leaves out, because something died that Ray doesn't bring back, the
next one does: that a block is done is decided by its part alone.
"""

import contextlib
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError, RayTaskError

from geo_ray.data.answering import Answered, BlockAnswerer
from geo_ray.data.conductor import Conductor, Listed
from geo_ray.data.feed import BlockReader, list_shards, read_blocks
from geo_ray.data.ledger import Ledger
from geo_ray.data.sources import SourceOptions
from geo_ray.errors import GeoRayError, RunStoppedError
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place

MAX_PASSES = 3  # in a row that commit nothing new
CPUS_TO_LIST, CPUS_TO_READ = 0.01, 0.5  # different, or Ray Data runs both in one task, and nothing side by side


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run answers, how, and where to."""

    inputs: tuple[str, ...]
    options: SourceOptions
    num_views: int
    graph: Graph
    ledger: Ledger
    rows_per_block: int
    features: bool = False


def answered_blocks(work: Work, place: Place, runtime: Runtime, conductor: Any) -> Dataset:
    """The pipeline: a row for each block, when its part is written."""
    head, tail = work.graph.split(1)
    reader = BlockReader(
        head=pickle.dumps(head),
        num_views=work.num_views,
        rows_per_block=work.rows_per_block,
        rows_per_batch=place.batch_size,
        decode_apart=place.decode_apart,
    )
    with _blocks_of_a_row():
        start = ray.data.from_items([{"start": 0}], override_num_blocks=1)
    shards = start.map_batches(
        list_shards,
        batch_format="pyarrow",
        fn_kwargs={"inputs": work.inputs, "options": work.options, "ledger": work.ledger, "conductor": conductor},
        num_cpus=CPUS_TO_LIST,
    )
    images = shards.map_batches(
        read_blocks,
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={"reader": reader, "conductor": conductor},
        num_cpus=1 if place.decode_apart else CPUS_TO_READ,
    )
    settings = {
        "head": head, "tail": tail, "runtime": runtime, "ledger": work.ledger, "rows_per_batch": place.batch_size,
        "features": work.features,
    }  # fmt: skip
    return images.map_batches(
        BlockAnswerer,
        fn_constructor_kwargs=settings,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=place.num_workers, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
        ),
        num_cpus=place.cpus_per_worker,
        num_gpus=place.gpus_per_worker or None,
    )


@contextlib.contextmanager
def _blocks_of_a_row() -> Iterator[None]:
    """Datasets that are begun meanwhile hand on each row as soon as it is there, as a block of its own."""
    context = DataContext.get_current()
    before, context.target_max_block_size = context.target_max_block_size, 1
    try:
        yield
    finally:
        context.target_max_block_size = before


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run has listed and could not read, when nothing else is left to do."""

    shard_ids: list[str]
    failures: list[str]


def answer_all(
    work: Work,
    place: Place,
    runtime: Runtime,
    see: Callable[[Answered, Listed], None] = lambda answered, listed: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Answer all blocks of the sources that are not done, in as many passes as that takes.

    ``see`` is called for each block that is done. When ``stop`` is set, what is under way is still committed, and
    ``RunStoppedError`` is raised. A ``GeoRayError`` of a worker is raised as it is.
    """
    conductor = ray.remote(num_cpus=0, max_restarts=-1)(Conductor).remote()
    stop, idle = stop or threading.Event(), 0
    while True:
        before, failures, broken = len(work.ledger.done()), dict[str, str](), ""
        try:
            for answered, listed in _pass(work, place, runtime, conductor, stop):
                if answered.failure:
                    failures[answered.block.shard_id] = answered.failure
                else:
                    see(answered, listed)
            shard_ids, complete = ray.get(conductor.shard_ids.remote()), ray.get(conductor.listed.remote()).complete
        except RayError as error:
            broken, shard_ids, complete = _passing(error), [], False
            work.ledger.event("pass_broken", error=broken)
        if stop.is_set():
            raise RunStoppedError(f"stopped; what is done stays in {work.ledger.output!r}, --resume completes it")
        done = work.ledger.done()
        missing = [one for one in shard_ids if not done.whole(one) and one not in failures]
        if complete and not missing:
            return Outcome(shard_ids=shard_ids, failures=list(failures.values()))
        idle = idle + 1 if len(done) == before else 0
        if idle == MAX_PASSES:
            why = broken or f"{len(missing)} shards are missing"
            raise RunStoppedError(f"{idle} passes over the inputs got no further ({why}); try again with --resume")
        work.ledger.event("pass_again", num_missing=len(missing))


def _pass(
    work: Work, place: Place, runtime: Runtime, conductor: Any, stop: threading.Event
) -> Iterator[tuple[Answered, Listed]]:
    """Each block that was answered, and what has been listed by then."""
    listed, asked_at, told = Listed(), 0.0, False
    rows = answered_blocks(work, place, runtime, conductor)
    with warnings.catch_warnings():
        # How many blocks there are isn't known before; that some workers have nothing to do then is no fault.
        warnings.filterwarnings("ignore", "The minimum number of concurrent actors")
        for batch in rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            if stop.is_set() and not told:
                ray.get(conductor.stop.remote())
                told = True
            if not listed.complete and time.monotonic() > asked_at + 1:
                listed, asked_at = ray.get(conductor.listed.remote()), time.monotonic()
            yield pickle.loads(batch["answered"][0].as_buffer()), listed


def _passing(error: RayError) -> str:
    """What broke a pass, where another may come through; what would come again is raised, an error of ours as it is."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, GeoRayError):
            raise seen from error
        inner = seen.cause if isinstance(seen, RayTaskError) else seen.__cause__
        if isinstance(seen, RayTaskError) and not isinstance(inner, RayError | GeoRayError | None):
            raise error
        seen = inner
    return str(error).strip().splitlines()[-1]
