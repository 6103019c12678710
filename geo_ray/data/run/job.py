"""Bulk geotagging: every input gets exactly one row, and the job says how it went."""

import json
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from geo_ray import __version__
from geo_ray.data.record.lease import Lease
from geo_ray.data.record.ledger import DECODE, MICRO_BATCH, Ledger
from geo_ray.data.record.output_tables import BYTES_PER_ANSWER, feature_table, prediction_table
from geo_ray.data.record.prediction_files import Inventory, settle
from geo_ray.data.record.rehearsal import check_room, rehearse
from geo_ray.data.run.coordinator import Listed
from geo_ray.data.run.pipeline import Outcome, answer_all
from geo_ray.data.run.preparation import GeotagJob
from geo_ray.data.run.progress import RunProgress
from geo_ray.data.run.settling import BackgroundSettler
from geo_ray.data.run.signals import stopped_by_signals
from geo_ray.data.run.worker import Answered
from geo_ray.data.sources.left_out import left_out_text
from geo_ray.errors import ErrorBudgetError, InputError, RunStoppedError
from geo_ray.geo.calibration import UNCERTAIN
from geo_ray.pipeline.columns import HAS_LOCATION
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place
from geo_ray.remote.shard_group import index_runtime

MANIFEST_OPTIONS = ("top_k", "max_problem_share", "exif", "max_pixels")
MANIFEST_ENTRIES = ("ref", "kind", "description", "licence", "fingerprint", "encoder_fingerprint")  # of the bundle


def geotag(job: GeotagJob, place: Place, see: Callable[[Answered], None] = lambda answered: None) -> dict[str, Any]:
    """Geotag the job's inputs on the connected Ray and write the predictions; returns the manifest.

    ``see`` is called for each block that is done.

    Raises ``ErrorBudgetError`` when more than the allowed share of rows has a problem; everything is written by then.
    ``RunStoppedError`` where something is left to do: the process was told to end, or inputs can't be read now.
    """
    ledger, start = job.work.ledger, time.monotonic()
    with Lease(ledger.store) as lease, stopped_by_signals() as stop:
        inventory = Inventory(ledger)
        place = _decoding_as_begun(job, place, len(inventory.done))
        _try_output(job, inventory)
        ledger.reopen()
        settler = BackgroundSettler(inventory, lease.check)
        progress = RunProgress(inventory.num_rows, lambda line: _say(ledger, line))
        roomy = False  # for all inputs, which are known when all are listed

        def done(answered: Answered, listed: Listed) -> None:
            nonlocal roomy
            if listed.complete and not roomy:
                _check_room(job, inventory, listed.num_rows or 0)
                roomy = True
            progress.see(answered, listed)
            settler.add(answered.block)
            see(answered)

        ledger.event("started", num_blocks_done=len(inventory.done))
        try:
            with index_runtime(job.index, place) if job.index else nullcontext(_runtime(place)) as runtime:
                outcome = answer_all(job.work, place, runtime, done, stop, inventory)
            settler.finish()
        except RunStoppedError as error:
            settler.finish()
            ledger.event("stopped", reason=str(error), num_images=progress.num_rows)
            raise
        finally:
            progress.close()
        settle(inventory, outcome.shard_ids, settler.write_all, lease.check)
        manifest = _manifest(job, inventory, progress.num_rows, progress.stages(), time.monotonic() - start)
        ledger.event("finished", num_images=manifest["num_images"], seconds=manifest["seconds"])
        _check_read(outcome, ledger)
        ledger.finish(manifest)
    _check_budget(manifest, job.options.max_problem_share)
    return manifest


def _decoding_as_begun(job: GeotagJob, place: Place, num_done: int) -> Place:
    """The place with images decoded where the run has begun to: on GPUs pixels are a little different."""
    ledger, asked = job.work.ledger, job.options.decode
    known = (job.options.resume and ledger.agreed(DECODE)) or "cpu"
    begun = known if num_done else "gpu" if place.decode_on_gpu else "cpu"
    if begun == "gpu" and not place.decode_on_gpu and (place.device == "cpu" or asked == "cpu"):
        raise InputError(f"{ledger.output!r} was begun with images decoded on GPUs; resume it so, on GPUs")
    if begun == "cpu" and asked == "gpu":
        raise InputError(f"{ledger.output!r} was begun with images decoded on CPUs; resume it with --decode cpu")
    if begun != known:
        ledger.agree(DECODE, begun)
    return replace(place, decode_on_gpu=begun == "gpu")


def _try_output(job: GeotagJob, inventory: Inventory) -> None:
    """Do what the run does to its output at its end, before it has begun; ``OutputError`` where that can't be done."""
    work, ledger = job.work, inventory.ledger
    _check_room(job, inventory, job.num_rows)
    manifest = _manifest(job, inventory, 0, {}, 0.0)
    table = feature_table if work.features else prediction_table
    rehearse(ledger, table(work.graph.blank(1)), json.dumps(manifest).encode())


def _check_room(job: GeotagJob, inventory: Inventory, num_rows: int) -> None:
    """Raise ``OutputError`` where the answers of so many inputs find no room on the output's disk."""
    per_row = 4 * job.bundle.num_features if job.options.features else BYTES_PER_ANSWER
    num_bytes = per_row * max(0, num_rows - inventory.num_rows)
    check_room(inventory.ledger, num_bytes, f"the answers of {num_rows:,} images" if num_rows else "a run")


def _runtime(place: Place) -> Runtime:
    return Runtime(device=place.device, num_threads=place.cpus_per_worker)


def _say(ledger: Ledger, line: str) -> None:
    print(line, flush=True)
    ledger.event("progress", text=line)


def _manifest(
    job: GeotagJob, inventory: Inventory, num_answered: int, stages: dict[str, dict[str, float]], seconds: float
) -> dict[str, Any]:
    return {
        "inputs": list(job.options.inputs),
        "options": {
            name: getattr(job.options, name)
            for name in (
                "top_k",
                "max_problem_share",
                "exif",
                "max_pixels",
                "micro_batch",
                "min_probability",
                "max_radius_km",
                "within",
            )
        },
        "bundle": {name: getattr(job.bundle, name) for name in MANIFEST_ENTRIES},
        "micro_batch": job.options.micro_batch or job.work.ledger.agreed(MICRO_BATCH) or job.bundle.encoder.micro_batch,
        "versions": _versions(),
        "num_images": inventory.num_rows,
        "problems": inventory.problems,
        "left_out": job.work.ledger.left_out(),
        "files": inventory.files,
        "seconds": round(seconds, 3),
        "images_per_second": round(num_answered / seconds, 2) if num_answered else None,
        "stages": stages,
    }


def _versions() -> dict[str, str]:
    """What the manifest names; geo-ray's own is the code's, as it may run from its source tree."""
    versions = {name: version(name) for name in ("ray", "torch", "pyarrow")}
    return {"geo-ray": __version__} | versions | {"python": platform.python_version()}


def _check_read(outcome: Outcome, ledger: Ledger) -> None:
    if outcome.failures:
        failures = list(outcome.failures.values())
        listed = "; ".join(failures[:3])
        ledger.event("unread", failures=failures[:100])
        raise RunStoppedError(
            f"{len(outcome.failures)} of {len(outcome.shard_ids)} pieces of the inputs can't be read ({listed}); "
            "all others are answered and written, --resume tries these again"
        )


def _check_budget(manifest: dict[str, Any], allowed: float) -> None:
    problems: dict[str, int] = dict(manifest["problems"])
    problems.pop(UNCERTAIN, None)
    asked = manifest["num_images"] - problems.pop(HAS_LOCATION, 0)
    share = sum(problems.values()) / max(1, asked)
    if share > allowed:
        listed = ", ".join(f"{count} {code}" for code, count in problems.items())
        raise ErrorBudgetError(
            f"{sum(problems.values())} of {asked} images have a problem "
            f"({share:.1%}, allowed {allowed:.1%}): {listed}; "
            "all rows are written, raise --max-problem-share to accept this"
        )


def summary_text(manifest: dict[str, Any], output: str) -> str:
    """How a run went, for the terminal."""
    problems = manifest["problems"]
    failed = ", ".join(f"{count} {code}" for code, count in problems.items()) or "no problems"
    rate = manifest["images_per_second"]
    speed = f"{manifest['seconds']:.1f} s, {rate:.0f} images/s" if rate else "nothing left to do"
    left_out = f"; left out: {left_out_text(manifest['left_out'])}" if manifest["left_out"] else ""
    return f"{manifest['num_images']:,} images ({failed}); {speed}; answers in {output}/predictions{left_out}"
