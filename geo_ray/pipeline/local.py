"""The in-process runner: the oracle that the other runners must agree with."""

from collections.abc import Iterable, Iterator

from geo_ray.pipeline.columns import Batch, num_rows
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.stage import Runtime


def run_local(graph: Graph, batches: Iterable[Batch], runtime: Runtime | None = None) -> Iterator[Batch]:
    """Each batch's answers, in order."""
    built = graph.build(runtime or Runtime())
    for batch in batches:
        yield built(batch)


def slices(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of at most ``size`` rows."""
    for start in range(0, num_rows(batch), size):
        yield {name: column[start : start + size] for name, column in batch.items()}
