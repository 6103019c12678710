"""The Ray Data runner: a graph over a stream of rows, for work that is done again rather than resumed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from geo_ray.data.sources import Input, fetch, num_views
from geo_ray.pipeline.columns import Batch
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place

ROWS_PER_BLOCK = 512  # a task reads and an actor answers this many images at a time
Output = Callable[[Batch], Any]  # from a graph's answers to what Ray Data stores


class GraphWorker:
    """An actor that has loaded a graph."""

    def __init__(self, graph: Graph, runtime: Runtime, output: Output) -> None:
        self._built = graph.build(runtime)
        self._output = output

    def __call__(self, batch: Batch) -> Any:
        """The answers to a batch."""
        return self._output(self._built(batch))


def as_is(batch: Batch) -> Batch:
    """The batch itself, for graphs whose columns stay in Ray Data."""
    return batch


def fetch_inputs(blocks: list[pa.Table]) -> Dataset:
    """A stream of the inputs with their bytes; a task reads a block."""
    return ray.data.from_arrow(blocks).map_batches(fetch, batch_format="numpy", num_cpus=0.5)


def fitted(place: Place, blocks: Sequence[pa.Table], inputs: Sequence[Input]) -> Place:
    """The place with no more workers than blocks, and batches that hold as many images whatever an item's views."""
    return dataclasses.replace(
        place,
        num_workers=min(place.num_workers, len(blocks)),
        batch_size=max(1, place.batch_size // num_views(inputs)),
    )


def rows_per_block(num_rows: int, place: Place) -> int:
    """Small enough that every worker gets several blocks, large enough that a block's overhead is small."""
    return max(16, min(ROWS_PER_BLOCK, -(-num_rows // (4 * place.num_workers))))


def apply_graph(
    rows: Dataset, graph: Graph, place: Place, output: Output = as_is, runtime: Runtime | None = None
) -> Dataset:
    """The graph's answers for every row, in any order; they are joined by ``image_id``.

    Workers search the bundle's own index, or what ``runtime`` offers (``remote.shard_group.index_runtime``).
    """
    runtime = runtime or Runtime(device=place.device, num_threads=place.cpus_per_worker)
    if place.decode_apart:
        decode, graph = graph.split_at_pixels()
        rows = rows.map_batches(decode.build(Runtime()), batch_format="numpy", batch_size=64)
    return rows.map_batches(
        GraphWorker,
        fn_constructor_kwargs={"graph": graph, "runtime": runtime, "output": output},
        batch_size=place.batch_size,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=place.num_workers),
        num_cpus=place.cpus_per_worker,
        num_gpus=place.gpus_per_worker or None,
    )
