"""The bulk pipeline on Ray Data: list shards -> read blocks -> answer and commit them.

With GPUs blocks are read -> decoded, by a task each or on the GPUs -> encoded on the GPUs -> located and committed by
actors.

Each pass answers what is not done yet. What a pass leaves out, because something died that Ray doesn't bring back, the
next one does: that a block is done is decided by the record alone.
"""

import contextlib
import gc
import math
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError, RayTaskError
from tqdm import tqdm

from geo_ray.data.record.blocks import Done
from geo_ray.data.record.ledger import Ledger
from geo_ray.data.record.prediction_files import Inventory
from geo_ray.data.run.block_reader import (
    MAX_RAW_BYTES,
    MAX_RAW_BYTES_APART,
    MAX_RAW_BYTES_TO_GPU,
    BlockReader,
    list_shards,
    read_blocks,
)
from geo_ray.data.run.coordinator import Coordinator, Listed
from geo_ray.data.run.loading import Worker
from geo_ray.data.run.preparation import Work
from geo_ray.data.run.stalls import EndsWhenShort
from geo_ray.data.run.transport import unpacked
from geo_ray.data.run.worker import ENCODED, Answered, BlockAnswerer, BlockEncoder, decode_blocks
from geo_ray.errors import GeoRayError, OutputError, RunStoppedError
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place, beside_driver

MAX_PASSES = 5  # in a row that commit nothing new
PAUSE_S = 10.0  # before the second of these, twice that before the third: nodes that died are noticed after 30 s
ATTENDED_EVERY_S = 0.5
# Different for steps that follow each other, or Ray Data runs both in one task; where decoding is apart, all together
# take a CPU, as a reader that has none to hand its blocks to goes on holding its own.
CPUS_TO_LIST, CPUS_TO_READ, CPUS_TO_READ_APART, CPUS_TO_DECODE = 0.01, 0.5, 0.25, 0.74


def answered_blocks(work: Work, place: Place, runtime: Runtime, coordinator: Any, done: Any) -> Dataset:
    """The pipeline: a row for each block that isn't ``done`` (on Ray's object store), when its part is written."""
    parts = work.graph.parts(with_search=place.search_device is not None)
    head = pickle.dumps(parts[0])
    reader = BlockReader(
        head=head,
        num_views=work.num_views,
        rows_per_block=work.rows_per_block,
        rows_per_batch=place.batch_size,
        max_raw_bytes=_max_raw_bytes(place),
    )
    listing = {"inputs": work.inputs, "options": work.options, "done": done, "coordinator": coordinator}
    steps = [
        Step(list_shards, listing, CPUS_TO_LIST),
        Step(
            read_blocks,
            {"reader": reader, "coordinator": coordinator},
            CPUS_TO_READ_APART if place.decode_apart else CPUS_TO_READ,
            max_tasks=place.num_readers if place.decode_apart else None,
        ),
    ]
    if place.decode_apart and not place.decode_on_gpu:
        settings = {"head": head, "rows_per_batch": place.batch_size, "coordinator": coordinator}
        steps.append(Step(decode_blocks, settings, CPUS_TO_DECODE))
    runtime = replace(runtime, decode_device=place.decode_device, search_device=place.search_device)
    answerer = partial(
        BlockAnswerer, parts=parts, ledger=work.ledger, rows_per_batch=place.batch_size, features=work.features
    )
    if not place.num_locators:
        answerer = partial(answerer, first=0, runtime=runtime)
        return stream(*steps, _workers(answerer, coordinator, place.cpus_per_worker, Pool.of_workers(place)))
    encoder = partial(BlockEncoder, parts=parts, rows_per_batch=place.batch_size, runtime=runtime)
    locator = partial(
        answerer,
        first=ENCODED,
        runtime=replace(runtime, device="cpu", num_threads=1, decode_device=None, search_device=None),
    )
    return stream(
        *steps,
        _workers(encoder, coordinator, place.cpus_per_worker, Pool.of_workers(place)),
        _workers(locator, coordinator, place.cpus_per_locator, Pool(place.num_locators)),
    )


def _max_raw_bytes(place: Place) -> int:
    """Bytes of a block's files that are not decoded where they are read."""
    if place.decode_on_gpu:
        return MAX_RAW_BYTES_TO_GPU
    return MAX_RAW_BYTES_APART if place.decode_apart else MAX_RAW_BYTES


def _workers(made_by: Callable[..., Any], coordinator: Any, num_cpus: int | float, pool: "Pool") -> "Step":
    """A step of workers that each are what this makes, given the coordinator."""
    return Step(Worker, {"made_by": pickle.dumps(made_by), "coordinator": coordinator}, num_cpus, pool)


@dataclass(frozen=True)
class Pool:
    """Actors that do a step: how many at least and at most, calls of each at a time, and what each takes."""

    min_size: int
    max_size: int = 0  # no more than at least
    num_calls: int = 2
    num_gpus: float = 0.0
    memory: int = 0

    @classmethod
    def of_workers(cls, place: Place) -> "Pool":
        """The place's workers."""
        most = place.max_workers or 0
        return cls(place.num_workers, most, num_gpus=place.gpus_per_worker, memory=place.memory_per_worker)


@dataclass(frozen=True)
class Step:
    """A step of a stream: a function of tasks or, with a ``pool``, a class of actors; what it is given; its CPUs.

    There are at most ``max_tasks`` at a time, or as many as there is room for.
    """

    function: Callable[..., Any]
    settings: dict[str, Any]
    num_cpus: int | float
    pool: Pool | None = None
    max_tasks: int | None = None


def stream(*steps: Step) -> Dataset:
    """One task of the first step, and as many as there is room for, or the actors, of each further; a row a call."""
    with _blocks_of_a_row():
        rows = ray.data.from_items([{"start": 0}], override_num_blocks=1)
    for step in steps:
        rows = _added(rows, step)
    return rows


def _added(rows: Dataset, step: Step) -> Dataset:
    one = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": step.num_cpus}
    if step.pool is None:
        tasks = TaskPoolStrategy(size=step.max_tasks)
        return rows.map_batches(step.function, fn_kwargs=step.settings, compute=tasks, **one)
    return rows.map_batches(
        step.function,
        fn_constructor_kwargs=step.settings,
        compute=ActorPoolStrategy(
            min_size=step.pool.min_size,
            max_size=step.pool.max_size or step.pool.min_size,
            max_concurrent_calls_per_actor=step.pool.num_calls,
            enable_true_multi_threading=True,
        ),
        num_gpus=step.pool.num_gpus or None,
        memory=step.pool.memory or None,
        **one,
    )


@contextlib.contextmanager
def _blocks_of_a_row() -> Iterator[None]:
    """Datasets that are begun meanwhile hand on each row as soon as it is there, as a block of its own.

    What their functions raise comes as it is: Ray Data's own wrapping loses the cause on its way to the driver.
    """
    context = DataContext.get_current()
    before = context.target_max_block_size, context.raise_original_map_exception
    context.target_max_block_size, context.raise_original_map_exception = 1, True
    try:
        yield
    finally:
        context.target_max_block_size, context.raise_original_map_exception = before


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run has listed and could not read, when nothing else is left to do."""

    shard_ids: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # by shard


def answer_all(
    work: Work,
    place: Place,
    runtime: Runtime,
    see: Callable[[Answered, Listed], None] = lambda answered, listed: None,
    stop: threading.Event | None = None,
    inventory: Inventory | None = None,
) -> Outcome:
    """Answer all blocks of the sources that are not done, in as many passes as that takes.

    ``inventory`` is what the record holds now, and knows of each block that is done from then on; it is listed anew
    before each further pass. ``see`` is called for each block after that. When ``stop`` is set, what is under way is
    still committed, and ``RunStoppedError`` is raised. A ``GeoRayError`` of a worker is raised as it is.
    """
    stop, idle, inventory = stop or threading.Event(), 0, inventory or Inventory(work.ledger)
    while True:
        before = len(inventory.done)
        outcome, broken = _try_pass(work, fitting(place, ray.cluster_resources()), runtime, see, stop, inventory)
        if stop.is_set():
            raise RunStoppedError(f"stopped; what is done stays in {work.ledger.output!r}, --resume completes it")
        done = inventory.done
        missing = [one for one in outcome.shard_ids if not done.whole(one) and one not in outcome.failures]
        if not broken and not missing:
            return outcome
        gc.collect()  # with what a broken pass has left go its actors, and the GPUs that they hold
        inventory.refresh()  # a block may have been written of which nobody was told
        idle = idle + 1 if len(inventory.done) == before else 0
        why = broken or f"{len(missing)} shards are missing"
        work.ledger.event("pass_again", reason=why)
        if idle == MAX_PASSES:
            raise RunStoppedError(f"{idle} passes over the inputs got no further ({why}); try again with --resume")
        stop.wait(idle * PAUSE_S)


def fitting(place: Place, resources: dict[str, float]) -> Place:
    """The place with as many workers as there is room for now, at least one: a node may have gone since it was planned.

    Of more, some would wait for ever, and so would the blocks that they had when their node died. Readers are few
    enough to leave three quarters of the other CPUs to those who decode.
    """
    fitted = replace(place, num_workers=max(1, min(place.num_workers, place.room(resources))))
    return replace(fitted, num_readers=max(1, math.floor(fitted.cpus_to_decode(resources.get("CPU", 0.0)))))


def _try_pass(
    work: Work,
    place: Place,
    runtime: Runtime,
    see: Callable[[Answered, Listed], None],
    stop: threading.Event,
    inventory: Inventory,
) -> tuple[Outcome, str]:
    """What a pass has listed and could not read, and what broke it; empty where it came to its end."""
    coordinator = ray.remote(max_restarts=-1, **beside_driver())(Coordinator).remote(work.ledger)
    failures: dict[str, str] = {}
    try:
        with _attended(coordinator, stop, work.ledger):
            for answered, listed in _pass(work, place, runtime, coordinator, inventory.done):
                if answered.failure:
                    failures[answered.block.shard_id] = answered.failure
                elif answered.done_at and inventory.done.add(answered.block):
                    see(answered, listed)
        listed = ray.get(coordinator.listed.remote())
        outcome = Outcome(shard_ids=ray.get(coordinator.shard_ids.remote()), failures=failures)
        work.ledger.leave_out(ray.get(coordinator.left_out.remote()))
    except (RayError, ExecutionTimeoutError) as error:
        return Outcome(), _passing(error)
    return outcome, "" if listed.complete else "the listing ended early"


@contextlib.contextmanager
def _attended(coordinator: Any, stop: threading.Event, ledger: Ledger) -> Iterator[None]:
    """Tells the coordinator that ``stop`` is set, again as it forgets when it dies, and tells what it has seen.

    Also while no block comes, as where a worker dies again and again.
    """
    ended = threading.Event()

    def attend() -> None:
        going_on = True
        while going_on:
            going_on = not ended.wait(ATTENDED_EVERY_S)
            with contextlib.suppress(RayError, OutputError):  # an output that can't be written ends the run elsewhere
                if stop.is_set():
                    ray.get(coordinator.stop.remote())
                for event in ray.get(coordinator.take_events.remote()):
                    tqdm.write(event["text"])
                    ledger.event(**event)

    attendant = threading.Thread(target=attend, name="coordinator", daemon=True)
    attendant.start()
    try:
        yield
    finally:
        ended.set()
        attendant.join()


def _pass(
    work: Work, place: Place, runtime: Runtime, coordinator: Any, done: Done
) -> Iterator[tuple[Answered, Listed]]:
    """Each block that was answered, and what has been listed by then."""
    listed, asked_at = Listed(), 0.0
    held = ray.put(done)  # as it is now, so that the listing is the same if Ray has to do it again
    rows = answered_blocks(work, place, runtime, coordinator, held)
    rows.context.custom_execution_callback_classes.append(EndsWhenShort)
    with warnings.catch_warnings():
        # How much there is isn't known before; that some workers or readers have nothing to do then is no fault.
        warnings.filterwarnings("ignore", "The (minimum|maximum) number of concurrent (actors|tasks)")
        for batch in rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            if not listed.complete and time.monotonic() > asked_at + 1:
                listed, asked_at = ray.get(coordinator.listed.remote()), time.monotonic()
            yield unpacked(batch), listed


def _passing(error: RayError | ExecutionTimeoutError) -> str:
    """What broke a pass, where another may come through; what would come again is raised, an error of ours as it is."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    if isinstance(cause, GeoRayError):
        cause.args = (str(cause).partition("\n")[0],)  # below it Ray Data has added advice on settings of its own
        raise cause from error
    if isinstance(cause, ExecutionTimeoutError):
        return str(cause).strip().splitlines()[0]
    if not isinstance(cause, RayError):
        raise error
    return str(error).strip().splitlines()[-1]
