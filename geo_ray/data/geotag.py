"""Bulk geotagging: every input gets exactly one row, and the job says how it went."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any


from geo_ray.data.apply import apply_graph, fetch_inputs
from geo_ray.data.ledger import Ledger, RunKey
from geo_ray.data.sinks import count_problems, prediction_table, written_rows
from geo_ray.data.sources import Input, input_blocks, list_inputs
from geo_ray.errors import ErrorBudgetError, InputError
from geo_ray.models.bundle import Bundle, open_bundle
from geo_ray.pipeline.graph import graph_of
from geo_ray.remote.place import Place

ROWS_PER_BLOCK = 512  # a task reads and an actor answers this many images at a time
ROWS_PER_FILE = 50_000


@dataclass(frozen=True, kw_only=True)
class GeotagOptions:
    """What to geotag, with what, and where the answers go."""

    inputs: tuple[str, ...]
    output: str
    bundle: str = "earth-tiny"
    top_k: int | None = None
    resume: bool = False
    max_problem_share: float = 0.1  # above it the job fails, after all answers are written

    def __post_init__(self) -> None:
        if not 0 <= self.max_problem_share <= 1:
            raise InputError(f"max_problem_share={self.max_problem_share} must be from 0 to 1")


def geotag(options: GeotagOptions, place: Place) -> dict[str, Any]:
    """Geotag the inputs on the connected Ray and write the predictions; returns the manifest.

    Raises ``InputError``, ``BundleError`` or ``OutputError`` before any work, and ``ErrorBudgetError`` after it when more
    than the allowed share of rows has a problem; everything is written by then.
    """
    bundle = open_bundle(options.bundle)
    graph = graph_of(bundle, options.top_k)
    inputs = list_inputs(options.inputs)
    ledger = Ledger(options.output)
    top_k = options.top_k or bundle.refinement.num_cells
    done = ledger.begin(
        RunKey(bundle_fingerprint=bundle.fingerprint, top_k=top_k, inputs=options.inputs), options.resume
    )
    todo = [item for item in inputs if item.image_id not in done]
    ledger.event("started", num_images=len(inputs), num_done=len(done))
    start = time.perf_counter()
    if todo:
        rows = fetch_inputs(input_blocks(todo, _rows_per_block(len(todo), place)))
        answers = apply_graph(rows, graph, place, output=prediction_table)
        answers.write_parquet(ledger.predictions, filesystem=ledger.fs, min_rows_per_file=min(ROWS_PER_FILE, len(todo)))
    seconds = time.perf_counter() - start
    rows_written = written_rows(ledger.fs, ledger.predictions)
    _check_complete(inputs, rows_written)
    manifest = _manifest(options, bundle, rows_written, len(todo), seconds)
    ledger.event("finished", num_images=len(rows_written), seconds=seconds)
    ledger.finish(manifest)
    _check_budget(manifest, options.max_problem_share)
    return manifest


def _rows_per_block(num_rows: int, place: Place) -> int:
    """Small enough that every worker gets several blocks, large enough that a block's overhead is small."""
    return max(16, min(ROWS_PER_BLOCK, -(-num_rows // (4 * place.num_workers))))


def _check_complete(inputs: Sequence[Input], rows: dict[str, str]) -> None:
    lost = [item.image_id for item in inputs if item.image_id not in rows]
    if lost:
        raise RuntimeError(f"{len(lost)} inputs have no row, such as {lost[:3]}; run again with --resume")


def _manifest(
    options: GeotagOptions, bundle: Bundle, rows: dict[str, str], num_answered: int, seconds: float
) -> dict[str, Any]:
    return {
        "inputs": list(options.inputs),
        "options": {"top_k": options.top_k, "max_problem_share": options.max_problem_share},
        "bundle": {
            "ref": bundle.ref,
            "kind": bundle.kind,
            "description": bundle.description,
            "fingerprint": bundle.fingerprint,
        },
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
            f"{sum(problems.values())} of {manifest['num_images']} images have a problem ({share:.1%}, allowed {allowed:.1%}): "
            f"{listed}; all rows are written, raise --max-problem-share to accept this"
        )
