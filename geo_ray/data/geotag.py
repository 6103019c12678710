"""Bulk geotagging: every input gets exactly one row, and the job says how it went."""

import dataclasses
import platform
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from geo_ray.data.answers import bundle_text
from geo_ray.data.apply import apply_graph, fetch_inputs
from geo_ray.data.ledger import Ledger, RunKey
from geo_ray.data.sinks import count_problems, feature_table, prediction_table, written_rows
from geo_ray.data.sources import Input, input_blocks, list_inputs, num_views
from geo_ray.errors import ErrorBudgetError, InputError
from geo_ray.index.store import check_info, read_info
from geo_ray.models.bundle import INDEX, Bundle, open_bundle
from geo_ray.pipeline.graph import Graph, embedding_graph, graph_of
from geo_ray.remote.place import Place
from geo_ray.remote.shard_files import ShardSet, find_shards
from geo_ray.remote.shard_group import index_runtime

ROWS_PER_BLOCK = 512  # a task reads and an actor answers this many images at a time
ROWS_PER_FILE = 50_000
MANIFEST_ENTRIES = ("ref", "kind", "description", "licence", "fingerprint", "encoder_fingerprint")  # of the bundle


@dataclass(frozen=True, kw_only=True)
class GeotagOptions:
    """What to geotag, with what, and where the answers go."""

    inputs: tuple[str, ...]
    output: str
    bundle: str = "earth-tiny"
    top_k: int | None = None
    views_by: str | None = None  # the column of a manifest whose equal values make rows views of one item
    index: str | None = None  # searched on shard actors in place of the bundle's own in each worker
    index_replicas: int = 1
    features: bool = False  # write image features in place of answers
    dtype: str = "auto"  # what the tower computes in: float32, bfloat16, float16, or what the device is fast in
    resume: bool = False
    max_problem_share: float = 0.1  # above it the job fails, after all answers are written

    def __post_init__(self) -> None:
        if not 0 <= self.max_problem_share <= 1:
            raise InputError(f"max_problem_share={self.max_problem_share} must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class GeotagJob:
    """A run whose every part is known to be usable."""

    options: GeotagOptions
    bundle: Bundle
    graph: Graph
    index: ShardSet | None  # what shard actors are to search
    inputs: list[Input]
    ledger: Ledger | None
    done: dict[str, str]  # image_id to problem of what an earlier run wrote

    @property
    def num_index_shards(self) -> int:
        """How many shards are to be put on actors."""
        return len(self.index.shards) if self.index else 0

    @property
    def todo(self) -> list[Input]:
        """The inputs that have no row yet."""
        return [item for item in self.inputs if item.image_id not in self.done]


def prepare(options: GeotagOptions, dry_run: bool = False) -> GeotagJob:
    """The job of these options; claims the output unless ``dry_run``. Needs no Ray.

    Raises ``InputError``, ``BundleError`` or ``OutputError``.
    """
    bundle = open_bundle(options.bundle)
    inputs = list_inputs(options.inputs, options.views_by)
    views = num_views(inputs)
    if options.features:
        graph = embedding_graph(bundle, views, options.dtype)
    else:
        graph = graph_of(bundle, options.top_k, views, options.dtype)
    index = find_index(options.index, bundle) if options.index else None
    ledger = None if dry_run else Ledger(options.output)
    key = RunKey(
        bundle_fingerprint=bundle.fingerprint,
        top_k=options.top_k,
        inputs=options.inputs,
        features=options.features,
        views_by=options.views_by,
        dtype=options.dtype,
        index=index.generation if index else "",
    )
    done = ledger.begin(key, options.resume) if ledger else {}
    return GeotagJob(options=options, bundle=bundle, graph=graph, index=index, inputs=inputs, ledger=ledger, done=done)


def find_index(address: str, bundle: Bundle) -> ShardSet:
    """The shards of the index at an address, for searches of this bundle; ``InputError`` or ``BundleError`` otherwise.

    Only its manifest is read.
    """
    if bundle.kind != "cells":
        raise InputError(f"bundle {bundle.ref} is of kind {bundle.kind}, which searches no index; leave out --index")
    index, own = find_shards(address), read_info(bundle.path(INDEX))
    check_info(
        index.address,
        index.whole,
        num_features=bundle.num_features,
        num_cells=own.num_cells,
        metric=own.metric,
        encoder_fingerprint=bundle.encoder_fingerprint,
        with_hubness=bundle.refinement.measure == "csls",
    )
    return index


def geotag(job: GeotagJob, place: Place) -> dict[str, Any]:
    """Geotag the job's inputs on the connected Ray and write the predictions; returns the manifest.

    Raises ``ErrorBudgetError`` when more than the allowed share of rows has a problem; everything is written by then.
    """
    if job.ledger is None:
        raise ValueError("a dry run has no output to write to")
    todo = job.todo
    job.ledger.event("started", num_images=len(job.inputs), num_done=len(job.done))
    start = time.perf_counter()
    if todo:
        blocks = input_blocks(todo, rows_per_block(len(todo), place))
        output = feature_table if job.options.features else prediction_table
        place, per_file = fitted(place, blocks, todo), min(ROWS_PER_FILE, len(todo))
        with index_runtime(job.index, place) if job.index else nullcontext() as runtime:
            answers = apply_graph(fetch_inputs(blocks), job.graph, place, output, runtime)
            answers.write_parquet(job.ledger.predictions, filesystem=job.ledger.fs, min_rows_per_file=per_file)
    seconds = time.perf_counter() - start
    written = written_rows(job.ledger.fs, job.ledger.predictions)
    _check_complete(job.inputs, written)
    manifest = _manifest(job, written, seconds)
    job.ledger.event("finished", num_images=len(written), seconds=seconds)
    job.ledger.finish(manifest)
    _check_budget(manifest, job.options.max_problem_share)
    return manifest


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


def _check_complete(inputs: Sequence[Input], rows: dict[str, str]) -> None:
    lost = [item.image_id for item in inputs if item.image_id not in rows]
    if lost:
        raise RuntimeError(f"{len(lost)} inputs have no row, such as {lost[:3]}; run again with --resume")


def _manifest(job: GeotagJob, rows: dict[str, str], seconds: float) -> dict[str, Any]:
    num_answered = len(job.todo)
    return {
        "inputs": list(job.options.inputs),
        "options": {"top_k": job.options.top_k, "max_problem_share": job.options.max_problem_share},
        "bundle": {name: getattr(job.bundle, name) for name in MANIFEST_ENTRIES},
        "versions": {name: version(name) for name in ("geo-ray", "ray", "torch", "pyarrow")}
        | {"python": platform.python_version()},
        "num_images": len(rows),
        "problems": count_problems(rows),
        "seconds": round(seconds, 3),
        "images_per_second": round(num_answered / seconds, 2) if num_answered else None,
    }


def _check_budget(manifest: dict[str, Any], allowed: float) -> None:
    problems: dict[str, int] = manifest["problems"]
    share = sum(problems.values()) / manifest["num_images"]
    if share > allowed:
        listed = ", ".join(f"{count} {code}" for code, count in problems.items())
        raise ErrorBudgetError(
            f"{sum(problems.values())} of {manifest['num_images']} images have a problem "
            f"({share:.1%}, allowed {allowed:.1%}): {listed}; "
            "all rows are written, raise --max-problem-share to accept this"
        )


def plan_text(job: GeotagJob, place: Place) -> str:
    """What a run will do, before it does."""
    num_todo = len(job.todo)
    done = f" ({len(job.done):,} are done)" if job.done else ""
    gpus = f" and {place.gpus_per_worker:g} GPU" if place.gpus_per_worker else ""
    index = (
        f"; index {job.index.address} in {job.num_index_shards} shards of {place.num_index_replicas} replicas"
        if job.index
        else ""
    )
    return (
        f"{bundle_text(job.bundle)}\n{num_todo:,} images{done} in blocks of {rows_per_block(num_todo, place)}; "
        f"{place.num_workers} workers of {place.cpus_per_worker} CPU{gpus}, batches of {place.batch_size}{index}"
    )


def summary_text(manifest: dict[str, Any], output: str) -> str:
    """How a run went, for the terminal."""
    problems = manifest["problems"]
    failed = ", ".join(f"{count} {code}" for code, count in problems.items()) or "no problems"
    rate = manifest["images_per_second"]
    speed = f"{manifest['seconds']:.1f} s, {rate:.0f} images/s" if rate else "nothing left to do"
    return f"{manifest['num_images']:,} images ({failed}); {speed}; answers in {output}/predictions"
