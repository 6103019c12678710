"""How fast a graph runs: through Ray Data, in bare processes, and behind a torch DataLoader, on the same files.

All three do the same work, from reading files to writing parquet, and are measured alike: by when each batch was done,
from the moment every worker has finished its first batch until the first worker has nothing left to do.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from geo_ray.data.apply import apply_graph, fetch_inputs
from geo_ray.data.sinks import prediction_table
from geo_ray.data.sources import Input, fetch, input_batches, input_blocks
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import Batch
from geo_ray.pipeline.graph import BuiltGraph, Graph, graph_of
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place


@dataclass(frozen=True)
class Done:
    """That a worker finished a number of rows at a time in seconds."""

    worker: int
    rows: int
    at: float


def steady_rate(done: Sequence[Done]) -> float:
    """Rows a second while every worker is busy."""
    workers = {item.worker for item in done}
    start = max(min(item.at for item in done if item.worker == worker) for worker in workers)
    end = min(max(item.at for item in done if item.worker == worker) for worker in workers)
    return sum(item.rows for item in done if start < item.at <= end) / (end - start)


def ray_data_rate(inputs: Sequence[Input], bundle: str, place: Place, rows_per_block: int, folder: Path) -> float:
    """Steady images a second of the bulk pipeline on the connected Ray."""
    rows = fetch_inputs(input_blocks(inputs, rows_per_block))
    answers = apply_graph(rows, graph_of(open_bundle(bundle)), place, output=stamped_table)
    answers.write_parquet(str(folder), min_rows_per_file=len(inputs))
    table = pq.read_table(folder, columns=["worker", "done_at"])
    if len(table) != len(inputs):
        raise RuntimeError(f"{len(inputs)} images in, {len(table)} rows out")
    stamps, counts = np.unique(np.stack([table["worker"], table["done_at"]], axis=1), axis=0, return_counts=True)
    return steady_rate([Done(int(w), int(n), float(at)) for (w, at), n in zip(stamps, counts, strict=True)])


def stamped_table(batch: Batch) -> pa.Table:
    """Predictions, and which process finished them when."""
    table = prediction_table(batch)
    stamp = {"worker": float(multiprocessing.current_process().pid or 0), "done_at": time.time()}
    for name, value in stamp.items():
        table = table.append_column(name, pa.array(np.full(len(table), value)))
    return table


def bare_rate(inputs: Sequence[Input], bundle: str, place: Place, folder: Path) -> float:
    """Steady images a second of as many bare processes, each with its share of the files, without Ray."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.SimpleQueue()
    barrier = context.Barrier(place.num_workers)
    shares = [inputs[worker :: place.num_workers] for worker in range(place.num_workers)]
    processes = [
        context.Process(target=_bare_worker, args=(worker, share, bundle, place, str(folder), barrier, queue))
        for worker, share in enumerate(shares)
    ]
    with _threads_of_children(place.cpus_per_worker):
        for process in processes:
            process.start()
    done = [Done(*item) for _ in processes for item in queue.get()]
    for process in processes:
        process.join()
    return steady_rate(done)


@contextlib.contextmanager
def _threads_of_children(count: int) -> Iterator[None]:
    """Processes started meanwhile have this many threads in BLAS too, as Ray sees to for its actors."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _bare_worker(
    worker: int, inputs: Sequence[Input], bundle: str, place: Place, folder: str, barrier: Any, queue: Any
) -> None:
    runtime = Runtime(device=place.device, num_threads=place.cpus_per_worker)
    built = graph_of(open_bundle(bundle)).build(runtime)
    barrier.wait()
    done, tables = [], []
    for start in range(0, len(inputs), place.batch_size):
        (batch,) = input_batches(inputs[start : start + place.batch_size], place.batch_size)
        tables.append(prediction_table(built(fetch(batch))))
        done.append((worker, len(tables[-1]), time.time()))
    pq.write_table(pa.concat_tables(tables), f"{folder}/{worker}.parquet")
    queue.put(done)


class _Files(torch.utils.data.Dataset[Batch]):
    """The files as a map-style dataset of decoded rows."""

    def __init__(self, inputs: Sequence[Input], decode: Graph) -> None:
        self._inputs, self._decode = inputs, decode
        self._built: BuiltGraph | None = None

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, row: int) -> Batch:
        self._built = self._built or self._decode.build(Runtime())
        (batch,) = input_batches([self._inputs[row]], 1)
        return self._built(fetch(batch))


def _collate(rows: list[Batch]) -> Batch:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def data_loader_rate(inputs: Sequence[Input], bundle: str, place: Place, folder: Path) -> float:
    """Steady images a second of a DataLoader that decodes in as many processes and a loop that does the rest.

    The model has as many threads as the workers have CPUs in all, as a plain loop would.
    """
    decode, rest = graph_of(open_bundle(bundle)).split(1)
    built = rest.build(Runtime(device=place.device, num_threads=place.num_workers * place.cpus_per_worker))
    loader = torch.utils.data.DataLoader(
        _Files(inputs, decode), batch_size=place.batch_size, num_workers=place.num_workers, collate_fn=_collate,
        multiprocessing_context="spawn", prefetch_factor=4,
    )  # fmt: skip
    done, tables = [], []
    for batch in loader:
        tables.append(prediction_table(built(batch)))
        done.append(Done(0, len(tables[-1]), time.time()))
    pq.write_table(pa.concat_tables(tables), folder / "answers.parquet")
    return steady_rate(done)


def compare(name: str, rates: dict[str, Callable[[], float]]) -> list[dict[str, Any]]:
    """A row for each way, with its ratio to ``bare``."""
    measured = {way: rate() for way, rate in rates.items()}
    return [
        {
            "name": f"{name} {way}",
            "images_per_second": round(rate, 1),
            "ratio_to_bare": round(rate / measured["bare"], 3),
        }
        for way, rate in measured.items()
    ]
