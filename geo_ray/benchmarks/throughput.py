"""How fast a graph runs: as a bulk job, in bare processes, behind a torch DataLoader, and in Daft, on the same files.

All do the same work, from reading files to writing parquet. ``steady`` is measured by when each batch was done, from
the moment every worker has finished its first batch until the first worker has nothing left to do; ``end_to_end``
includes all starts and ends. Bare processes and the DataLoader's loop write each batch's answers as they come: small
tables kept between large arrays that go leave the C library's heap in pieces (1.5 MB an image was seen).
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

from geo_ray.data.record.output_tables import SCHEMA, prediction_table
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.data.sources import Input, fetch, input_batches, list_inputs
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import Batch, source_batch
from geo_ray.pipeline.graph import BuiltGraph, Graph, graph_of
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place
from geo_ray.remote.runtime import connected


@dataclass(frozen=True)
class Done:
    """That a worker finished a number of rows at a time in seconds."""

    worker: int
    rows: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Images a second, while all workers are busy and from start to end."""

    steady: float
    end_to_end: float


def steady_rate(done: Sequence[Done]) -> float:
    """Rows a second while every worker is busy."""
    workers = {item.worker for item in done}
    start = max(min(item.at for item in done if item.worker == worker) for worker in workers)
    end = min(max(item.at for item in done if item.worker == worker) for worker in workers)
    return sum(item.rows for item in done if start < item.at <= end) / (end - start)


def measured(run: Callable[[], Sequence[Done]]) -> Measured:
    """The rates of a run that answers when which rows were done."""
    start = time.perf_counter()
    done = run()
    return Measured(
        steady=steady_rate(done), end_to_end=sum(item.rows for item in done) / (time.perf_counter() - start)
    )


def bulk_job(table: Path, bundle: str, place: Place, folder: Path) -> list[Done]:
    """The job that users run, on a Ray that it starts: inputs by a table, predictions as GeoParquet."""
    done: list[Done] = []
    job = prepare(GeotagOptions(inputs=(str(table),), output=str(folder), bundle=bundle))
    with connected("local", place.num_workers + 2):
        geotag(job, place, lambda block: done.append(Done(block.worker, block.num_rows, block.done_at)))
    return done


def stamped_table(batch: Batch) -> pa.Table:
    """Predictions, and which process finished them when."""
    table = prediction_table(batch)
    stamp = {"worker": float(multiprocessing.current_process().pid or 0), "done_at": time.time()}
    for name, value in stamp.items():
        table = table.append_column(name, pa.array(np.full(len(table), value)))
    return table


def read_stamps(folder: Path) -> list[Done]:
    """What ``stamped_table`` noted."""
    table = pq.read_table(folder, columns=["worker", "done_at"])
    stamps, counts = np.unique(np.stack([table["worker"], table["done_at"]], axis=1), axis=0, return_counts=True)
    return [Done(int(w), int(n), float(at)) for (w, at), n in zip(stamps, counts, strict=True)]


def bare_processes(table: Path, bundle: str, place: Place, folder: Path) -> list[Done]:
    """As many processes, each with its share of the files, without Ray: what the machine can do."""
    inputs = list_inputs([str(table)])
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
    return done


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
    done = []
    with pq.ParquetWriter(f"{folder}/{worker}.parquet", SCHEMA) as file:
        for start in range(0, len(inputs), place.batch_size):
            (batch,) = input_batches(inputs[start : start + place.batch_size], place.batch_size)
            answers = prediction_table(built(fetch(batch)))
            file.write_table(answers)
            done.append((worker, len(answers), time.time()))
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


def data_loader(table: Path, bundle: str, place: Place, folder: Path) -> list[Done]:
    """A torch DataLoader that decodes in as many processes, and a loop that does the rest.

    The model has as many threads as the workers have CPUs in all, as a plain loop would.
    """
    inputs = list_inputs([str(table)])
    decode, rest = graph_of(open_bundle(bundle)).split_at_pixels()
    built = rest.build(Runtime(device=place.device, num_threads=place.num_workers * place.cpus_per_worker))
    loader = torch.utils.data.DataLoader(
        _Files(inputs, decode), batch_size=place.batch_size, num_workers=place.num_workers, collate_fn=_collate,
        multiprocessing_context="spawn", prefetch_factor=4,
    )  # fmt: skip
    done = []
    with pq.ParquetWriter(folder / "answers.parquet", SCHEMA) as file:
        for batch in loader:
            answers = prediction_table(built(batch))
            file.write_table(answers)
            done.append(Done(0, len(answers), time.time()))
    return done


def daft_query(table: Path, bundle: str, place: Place, folder: Path) -> list[Done]:
    """A query of Daft: its own reading and writing, and the graph in a class of as many processes."""
    import daft

    kind = daft.DataType.from_arrow_type(pa.struct(list(stamped_table(_no_answers(bundle)).schema)))

    @daft.cls(max_concurrency=place.num_workers, use_process=True)
    class Answer:
        def __init__(self) -> None:
            self._built = graph_of(open_bundle(bundle)).build(Runtime(num_threads=place.cpus_per_worker))

        @daft.method.batch(return_dtype=kind, batch_size=place.batch_size, unnest=True)  # type: ignore[untyped-decorator,unused-ignore]
        def answer(self, ids: Any, uris: Any, contents: Any) -> pa.Array:
            columns = (ids.cast(daft.DataType.string()).to_pylist(), uris.to_pylist(), contents.to_pylist())
            answers = stamped_table(self._built(source_batch(*columns, [""] * len(ids))))
            return answers.to_struct_array().combine_chunks()

    frame = daft.read_csv(str(table)).with_column("bytes", daft.col("path").download())
    with _threads_of_children(place.cpus_per_worker):
        query = frame.select(Answer().answer(daft.col("id"), daft.col("path"), daft.col("bytes")))
        query.write_parquet(str(folder))
    return read_stamps(folder)


def _no_answers(bundle: str) -> Batch:
    """The answers of no images."""
    return graph_of(open_bundle(bundle)).build(Runtime())(source_batch([], [], [], []))


def row_of(rates: Measured | None, bound: float | None) -> dict[str, Any]:
    """The figures of a way, as far as there are any; ratios are to ``bound``, the steady rate of bare processes."""
    if rates is None or bound is None:
        return {}
    return {
        "images_per_second": round(rates.steady, 1),
        "ratio_to_bare": round(rates.steady / bound, 3),
        "end_to_end": round(rates.end_to_end, 1),
        "end_to_end_ratio": round(rates.end_to_end / bound, 3),
    }
